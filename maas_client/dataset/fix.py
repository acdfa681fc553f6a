"""``validate --fix``: a file without what can be mended, and a list of what was.

Only repairs that lose nothing: encoding, line ends, an array as lines, commas too many, equal
keys with equal values, known keys and roles in another case. What would need a guess stays as it
is, or is taken out and written beside with ``drop``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from maas_client.dataset import repair
from maas_client.dataset.atomic import different, regular, replacing
from maas_client.dataset.check import Checker
from maas_client.dataset.read import LINE_BYTES, Line
from maas_client.dataset.sniff import HEAD_BYTES, sniff
from maas_client.dataset.source import SINGLE, Encoding, encoding_of, lines
from maas_client.errors import ConfigError

KEPT = 1000
"""Places kept of each list."""


@dataclass(frozen=True, slots=True)
class Left:
    """A line that could not be mended."""

    line: int
    codes: tuple[str, ...]
    """What is wrong with it, as ``validate`` says."""


@dataclass(slots=True)
class Fixed:
    """What was done to a file."""

    path: str
    out: str
    beside: str | None = None
    """Where the lines that were taken out lie; None without ``drop`` or if there were none."""
    rows: int = 0
    """Lines written."""
    repairs: Counter[str] = field(default_factory=Counter)
    """How often each repair was made."""
    places: list[tuple[int, str]] = field(default_factory=list)
    """The first repairs, each with its line in the source."""
    left: list[Left] = field(default_factory=list)
    """The first lines beyond repair."""
    bad: int = 0
    """How many lines were beyond repair."""

    @property
    def ok(self) -> bool:
        """Return whether all that was written is well-formed, and something was."""
        return self.rows > 0 and (self.beside is not None or not self.bad)

    def note(self, line: int, what: str) -> None:
        """Count a repair."""
        self.repairs[what] += 1
        if len(self.places) < KEPT:
            self.places.append((line, what))

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {
            "ok": self.ok,
            "path": self.path,
            "out": self.out,
            "beside": self.beside,
            "rows": self.rows,
            "repairs": dict(self.repairs),
            "places": [{"line": line, "repair": what} for line, what in self.places],
            "beyond_repair": self.bad,
            "left": [{"line": each.line, "codes": list(each.codes)} for each in self.left],
        }


def fix(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    drop: bool = False,
    in_place: bool = False,
    target: str | None = None,
    model: str | None = None,
) -> Fixed:
    """Write a mended copy of a chat file.

    Args:
        path: the file, in any encoding a chat file was ever seen in, lines or one array.
        out: where the copy goes; it may be ``path`` itself only with ``in_place``.
        drop: leave out lines that cannot be mended, and write them to ``OUT.dropped.jsonl``.
        target, model: what the rows are judged for, see ``validate``.

    Nothing is written if this raises: ``OSError``, or ``ConfigError`` for a file that is no JSON.
    """
    regular(path)
    beside = beside_of(out)
    if not in_place:
        different(path, out)
    if drop:
        different(path, beside)
    checker = Checker(target=target, model=model)
    done = Fixed(os.fspath(path), os.fspath(out))
    with replacing(out, beside) if drop else replacing(out) as files:
        _write(_lines(path, done), done, checker, files)
    if drop and done.bad:
        done.beside = os.fspath(beside)
    elif drop:
        os.unlink(beside)
    return done


def beside_of(out: str | PathLike[str]) -> Path:
    """Return where ``drop`` puts the lines that it takes out."""
    return Path(out).with_suffix(".dropped.jsonl")


def _write(
    source: Iterator[tuple[int, bytes]], done: Fixed, checker: Checker, files: tuple[BinaryIO, ...]
) -> None:
    """Mend line by line; the second file, if there is one, takes what is beyond repair."""
    for number, line in source:
        if not line.strip():
            done.note(number, "blank line taken out")
            continue
        if not line.strip(b"\0"):
            done.note(number, "line of NUL bytes taken out")
            continue
        good, bad = _mend(number, line, done, checker)
        for row in good:
            files[0].write(row + b"\n")
            done.rows += 1
        if bad is None:
            continue
        done.bad += 1
        if len(done.left) < KEPT:
            done.left.append(bad)
        files[-1].write(line + b"\n")
        done.rows += len(files) == 1


def _mend(
    number: int, line: bytes, done: Fixed, checker: Checker
) -> tuple[list[bytes], Left | None]:
    """Return the well-formed lines that a line becomes, or why it is beyond repair."""
    verdict = checker.judge(Line(number, 0, line, len(line) > LINE_BYTES))
    if verdict.row is not None:
        stripped = line.strip(b" \t\r")
        if stripped != line:
            done.note(number, "white space around the object taken out")
        return [stripped], None
    codes = [bad.code for bad in verdict.json_faults]
    codes += [fault.code for fault in verdict.faults if checker.stops(fault)]
    left = Left(number, tuple(dict.fromkeys(codes)))
    try:
        found, said = repair.values(line)
    except repair.Unrepairable:
        return [], left
    rows = []
    for value in found:
        mended, more = repair.row(value) if isinstance(value, dict) else (value, [])
        data = _dump(mended)
        if checker.judge(Line(number, 0, data, len(data) > LINE_BYTES)).row is None:
            return [], left
        rows.append(data)
        said += more
    for what in said:
        done.note(number, what)
    return rows, None


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _lines(path: str | PathLike[str], done: Fixed) -> Iterator[tuple[int, bytes]]:
    """Yield a file's rows as UTF-8 lines with their numbers, and note what that took."""
    encoding = encoding_of(path)
    by_line = encoding.codec == SINGLE
    if by_line:
        pass  # each line says by itself whether it is
    elif encoding.what == "byte order mark":
        done.note(1, "byte order mark taken out")
    elif encoding.what:
        done.note(1, f"{encoding.what} written as UTF-8")
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        plain = head.removeprefix(encoding.mark).decode(encoding.codec, "replace").encode()
        kind = sniff(plain, whole=len(head) < HEAD_BYTES)
    name = kind[0] if kind else ""
    if name in ("FILE_JSON_ARRAY", "FILE_PRETTY_PRINTED"):
        if by_line:
            done.note(0, repair.WESTERN)
        yield from _elements(path, encoding, done)
        return
    if name in ("FILE_CSV", "FILE_EMPTY"):
        raise ConfigError(
            f"{path} holds no JSON",
            hint="maas-client datasets convert reads CSV." if name == "FILE_CSV" else None,
        )
    if name == "FILE_CR_ONLY":
        done.note(1, "carriage returns alone as line ends")
    elif b"\r\n" in plain:
        done.note(1, "CRLF line ends")
    if not _ends_well(path, encoding):
        done.note(0, "line feed at the end of the file")
    yield from enumerate(lines(path, Encoding("utf-8") if by_line else encoding), 1)


def _ends_well(path: str | PathLike[str], encoding: Encoding) -> bool:
    with open(path, "rb") as file:
        end = "\n".encode(encoding.codec)
        file.seek(-min(len(end), os.path.getsize(path)), os.SEEK_END)
        return file.read() == end


def _elements(
    path: str | PathLike[str], encoding: Encoding, done: Fixed
) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of an array, or the values of a pretty-printed file, one per line."""
    with open(path, "rb") as file:
        data = file.read()[len(encoding.mark) :]
    try:
        found = repair.several(data.decode(encoding.codec, "replace").strip())
    except repair.Unrepairable as problem:
        raise ConfigError(
            f"{path} cannot be read as JSON: {problem}",
            hint="Mend its syntax first; a JSON linter names the place.",
        ) from None
    rows = [each for value in found for each in (value if isinstance(value, list) else [value])]
    what = "an array" if isinstance(found[0], list) else "objects over several lines"
    done.note(0, f"{what} written as one object per line")
    for number, value in enumerate(rows, 1):
        yield number, _dump(value)
