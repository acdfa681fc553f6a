"""What can be read only once (standard input, ``<(...)``), as files: private, and gone afterwards.

A check reads its file again for the places of what it found late, so a stream is copied first. The
copy lies on the disk, in ``TMPDIR``: memory stays flat. Pipes that have a name in the file system are
not waited for, as nobody may ever write to them.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import select
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO, NoReturn, cast

from maas_client.cli._output import print_note
from maas_client.errors import ConfigError

STDIN_NAME = "<stdin>"
"""What ``-`` is called in a report."""
_CHUNK_BYTES = 1 << 20
_LOOK_S = 0.5
"""How late a signal may be seen that came just before a wait."""
_OPEN = re.compile(r"/dev/(?:stdin|fd/(\d+))|/proc/self/fd/(\d+)")
"""Paths of what this process has open already: the shell's ``<(...)`` is one of them."""
_LEFT = "Write it to a file first, and name that: ... > FILE.jsonl"


@contextmanager
def spool_streams(args: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Let ``args.files`` and ``args.validation`` name copies of what can be read only once.

    Yields the name by which each copy is to be shown. The copies are readable by their owner alone,
    and deleted when the block ends, also by Ctrl-C, SIGTERM or SIGHUP. Raises ``ConfigError`` for
    standard input that is named twice, closed, or more than the disk takes.
    """
    names = [*args.files, *([args.validation] if args.validation else [])]
    once = [name for name in names if _only_once(name)]
    sources = [_number(name) for name in once]
    if len(set(sources)) < len(sources):
        raise ConfigError("the same stream is named twice, and can be read once", hint=_LEFT)
    if not once:
        yield {}
        return
    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="maas-client-") as folder:
        copies = {name: str(Path(folder, f"{at}.jsonl")) for at, name in enumerate(once)}
        for name, copy in copies.items():
            _copy(name, copy)
        args.files = [copies.get(name, name) for name in args.files]
        args.validation = copies.get(args.validation, args.validation)
        yield {copy: STDIN_NAME if name == "-" else name for name, copy in copies.items()}


def _only_once(name: str) -> bool:
    if name == "-":
        return True
    try:
        return bool(_OPEN.fullmatch(name)) and not stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        return False


def _number(name: str) -> int:
    """Return the descriptor that a name means."""
    match = _OPEN.fullmatch(name)
    return int(match[1] or match[2] or 0) if match else 0


def _copy(name: str, copy: str) -> None:
    shown = "standard input" if name == "-" else name
    with open(
        os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0
    ) as file:
        try:
            source = _standard_input() if name == "-" else open(name, "rb")  # noqa: SIM115 - below
            for chunk in _pieces(source):
                _write(file, chunk, f"{shown} cannot be kept in {os.path.dirname(copy)}")
        except OSError as problem:
            raise ConfigError(f"{shown} cannot be read: {problem.strerror}", hint=_LEFT) from None
        if name != "-":
            source.close()


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    """Yield what comes, as it comes.

    A signal that arrives just before a read is looked at after it: so none begins before there is
    something to read.
    """
    reader = cast("io.BufferedReader", source)
    while True:
        while os.name == "posix" and not select.select([reader], [], [], _LOOK_S)[0]:
            pass
        chunk = reader.read1(_CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _standard_input() -> BinaryIO:
    if sys.stdin is None or sys.stdin.closed:
        raise ConfigError(
            "standard input is closed", hint="Send the rows: ... | maas-client validate -"
        )
    if sys.stdin.isatty():
        print_note("reading rows from the terminal; end them with Ctrl-D")
    return cast("BinaryIO", sys.stdin.buffer)


def _write(file: io.FileIO, chunk: bytes, failed: str) -> None:
    """Write all of ``chunk``. Nothing waits in a buffer, which would fail once more when it is closed."""
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as problem:
        raise ConfigError(
            f"{failed}: {problem.strerror}",
            hint="Set TMPDIR to a folder on a disk with more room.",
        ) from None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn signals that would end this process on the spot into an exit that cleans up."""
    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    ours = [n for n in numbers if signal.getsignal(n) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, _end)
    except ValueError:  # not the main thread, which alone may
        ours = []
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
