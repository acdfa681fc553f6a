"""Find the duplicates of a large file in a second process, on a core that is idle.

``DuplicatesProcess`` takes the place of the two scanners whose issues all come at the end of the file. It
sends the line numbers of the valid rows to the process, which reads these rows from the file itself, decodes
them without validating them again, and gives them to the two scanners. So the results are those of one
process. If the process cannot be started or ends early, ``ProcessLostError`` is raised, and the file has to be
validated again without it.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from itertools import chain, islice
from typing import IO, Any, cast

from maas_client._cores import usable_cores
from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.conversations import LazyRows, decode_block
from maas_client.dataset.parsing.lines import LineIndex, fingerprint, read_blocks
from maas_client.dataset.parsing.strict_json import parse_json
from maas_client.dataset.scanners import Row
from maas_client.dataset.scanners.duplicates import DuplicateScanner
from maas_client.dataset.scanners.near_duplicates import NearDuplicateScanner, make_row_reader

_ISSUES_AT_ONCE = 1000
_COMMAND = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    f"from {__name__} import main; main()"
)
"""Started with ``-I`` and the parent's search path: ``-m`` would import from the current folder, and without
``-I`` a changed search path of the parent would be missing. Bytecode is written by the parent."""


class ProcessLostError(Exception):
    """The second process ended before it sent its results, or read another file."""


def can_start() -> bool:
    """Return whether a core is idle, ``sys.executable`` is Python, and a write to an ended process raises."""
    program = os.path.basename(sys.executable or "").casefold()
    multiprocessing = sys.modules.get("multiprocessing")
    return (
        os.name == "posix"
        and program.startswith(("python", "pypy"))
        and signal.getsignal(signal.SIGPIPE) != signal.SIG_DFL
        and (multiprocessing is None or multiprocessing.parent_process() is None)
        and has_idle_core()
    )


def has_idle_core() -> bool:
    """Return whether this process may use two cores and the machine's load leaves one idle."""
    return usable_cores() >= 2 and os.getloadavg()[0] <= (os.cpu_count() or 1) - 1


@contextmanager
def start(path: str) -> Iterator[DuplicatesProcess]:
    """Start the second process for a file, and end it."""
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, ValueError) as error:
        raise ProcessLostError from error
    pipes = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
    try:
        yield DuplicatesProcess(path, *pipes)
    finally:
        process.kill()
        for pipe in pipes:
            with suppress(OSError):  # line numbers that were not written are not needed any more
                pipe.close()
        process.wait()


class DuplicatesProcess:
    """A scanner in place of ``DuplicateScanner`` and ``NearDuplicateScanner``, without a validation file."""

    def __init__(self, path: str, messages: IO[bytes], results: IO[bytes]) -> None:
        self._path = path
        self._messages = messages
        self._results = results
        self._stats: dict[str, Any] = {}
        self._send([*map(str, sys.path)])
        self._send(path)

    def feed(
        self, numbers: Sequence[int], lines: Sequence[bytes], rows: Sequence[Row]
    ) -> tuple[Issue, ...]:
        """Send the rows' line numbers; issues are reported by ``finish``."""
        self._send(numbers)
        return ()

    def finish(self) -> Iterator[Issue]:
        """Yield duplicates, conflicts and near duplicates. Each names the earlier line."""
        self._send(None)
        self._messages.close()
        while issues := self._receive():
            yield from issues
        self._stats, file = self._receive()
        if file != fingerprint(os.stat(self._path)):
            raise ProcessLostError

    def stats(self) -> dict[str, Any]:
        """Return the figures of both scanners."""
        return self._stats

    def _send(self, value: object) -> None:
        try:
            pickle.dump(value, self._messages)
            self._messages.flush()
        except OSError as error:
            raise ProcessLostError from error

    def _receive(self) -> Any:
        try:
            return pickle.load(self._results)  # noqa: S301 - of a process that we started
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise ProcessLostError from error


def main() -> None:
    """Run as the second process: read the rows whose numbers come from stdin, write the issues to stdout."""
    messages, results = sys.stdin.buffer, sys.stdout.buffer
    path = pickle.load(messages)  # noqa: S301 - of the process that started this one
    exact = DuplicateScanner()
    near = NearDuplicateScanner(exact, keep_pieces=False)
    index = LineIndex()
    near.read_rows = make_row_reader(index, path)
    near_duplicates: list[Issue] | None = None
    with open(path, "rb", buffering=0) as file:
        for numbers, lines in _read_rows(messages, file, index):
            rows = _decode(lines)
            exact.feed(numbers, lines, rows)
            near.feed(numbers, lines, rows)
            if (
                near_duplicates is None and near.is_full
            ):  # compare while the other rows are validated
                near_duplicates = list(near.finish())
        issues = chain(
            exact.finish(), near.finish() if near_duplicates is None else near_duplicates
        )
        while chunk := list(islice(issues, _ISSUES_AT_ONCE)):
            pickle.dump(chunk, results)
        pickle.dump([], results)
        stats = exact.stats() | near.stats()
        pickle.dump((stats, fingerprint(os.fstat(file.fileno()))), results)
    results.flush()


def _read_rows(
    messages: IO[bytes], file: FileIO, index: LineIndex
) -> Iterator[tuple[Sequence[int], list[bytes]]]:
    """Yield the numbers and the lines of valid rows, block by block."""
    blocks = read_blocks(file)
    while numbers := pickle.load(messages):  # noqa: S301 - of the process that started this one
        for block in blocks:
            if block.first_line + len(block.lines) > numbers[0]:
                break
        index.add(block.first_line, block.offset)
        lines = block.lines
        if len(numbers) < len(lines):
            lines = [lines[number - block.first_line] for number in numbers]
        yield numbers, lines


def _decode(lines: Sequence[bytes]) -> Sequence[Row]:
    """Return the rows of valid lines."""
    conversations = decode_block(lines)
    return (
        [parse_json(line) for line in lines] if conversations is None else LazyRows(conversations)
    )
