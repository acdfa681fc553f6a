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

from maas_client.dataset.edit import repair
from maas_client.dataset.edit.atomic_write import (
    atomic_write,
    require_distinct_paths,
    require_regular_file,
)
from maas_client.dataset.edit.encoding import CP1252, Encoding, detect_encoding, read_utf8_lines
from maas_client.dataset.parsing.file_type import HEAD_BYTES, detect_wrong_format
from maas_client.dataset.parsing.lines import MAX_LINE_BYTES, Line
from maas_client.dataset.rules.line_check import LineValidator
from maas_client.errors import ConfigError

MAX_LISTED = 1000
"""Places kept of each list."""


@dataclass(frozen=True, slots=True)
class UnfixedLine:
    """A line that could not be mended."""

    line: int
    codes: tuple[str, ...]
    """What is wrong with it, as ``validate`` says."""


@dataclass(slots=True)
class FixResult:
    """What was done to a file."""

    path: str
    out: str
    dropped_path: str | None = None
    """Where the lines that were taken out lie; None without ``drop`` or if there were none."""
    rows: int = 0
    """Lines written."""
    repairs: Counter[str] = field(default_factory=Counter)
    """How often each repair was made."""
    repaired_lines: list[tuple[int, str]] = field(default_factory=list)
    """The first repairs, each with its line in the source."""
    unfixed_lines: list[UnfixedLine] = field(default_factory=list)
    """The first lines beyond repair."""
    unfixed_count: int = 0
    """How many lines were beyond repair."""

    @property
    def ok(self) -> bool:
        """Return whether all that was written is well-formed, and something was."""
        return self.rows > 0 and (self.dropped_path is not None or not self.unfixed_count)

    def add_repair(self, line: int, what: str) -> None:
        """Count a repair."""
        self.repairs[what] += 1
        if len(self.repaired_lines) < MAX_LISTED:
            self.repaired_lines.append((line, what))

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {
            "ok": self.ok,
            "path": self.path,
            "out": self.out,
            "beside": self.dropped_path,
            "rows": self.rows,
            "repairs": dict(self.repairs),
            "places": [{"line": line, "repair": what} for line, what in self.repaired_lines],
            "beyond_repair": self.unfixed_count,
            "left": [{"line": each.line, "codes": list(each.codes)} for each in self.unfixed_lines],
        }


def fix(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    drop: bool = False,
    in_place: bool = False,
    target: str | None = None,
    model: str | None = None,
) -> FixResult:
    """Write a mended copy of a chat file.

    Args:
        path: the file, in any encoding a chat file was ever seen in, lines or one array.
        out: where the copy goes; it may be ``path`` itself only with ``in_place``.
        drop: leave out lines that cannot be mended, and write them to ``OUT.dropped.jsonl``.
        target, model: what the rows are judged for, see ``validate``.

    Nothing is written if this raises: ``OSError``, or ``ConfigError`` for a file that is no JSON.
    """
    require_regular_file(path)
    beside = dropped_path_for(out)
    if not in_place:
        require_distinct_paths(path, out)
    if drop:
        require_distinct_paths(path, beside)
    checker = LineValidator(target=target, model=model)
    done = FixResult(os.fspath(path), os.fspath(out))
    with atomic_write(out, beside) if drop else atomic_write(out) as files:
        _write(_lines(path, done), done, checker, files)
    if drop and done.unfixed_count:
        done.dropped_path = os.fspath(beside)
    elif drop:
        os.unlink(beside)
    return done


def dropped_path_for(out: str | PathLike[str]) -> Path:
    """Return where ``drop`` puts the lines that it takes out."""
    return Path(out).with_suffix(".dropped.jsonl")


def _write(
    source: Iterator[tuple[int, bytes]],
    done: FixResult,
    checker: LineValidator,
    files: tuple[BinaryIO, ...],
) -> None:
    """Mend line by line; the second file, if there is one, takes what is beyond repair."""
    for number, line in source:
        if not line.strip():
            done.add_repair(number, "blank line taken out")
            continue
        if not line.strip(b"\0"):
            done.add_repair(number, "line of NUL bytes taken out")
            continue
        good, bad = _mend(number, line, done, checker)
        for row in good:
            files[0].write(row + b"\n")
            done.rows += 1
        if bad is None:
            continue
        done.unfixed_count += 1
        if len(done.unfixed_lines) < MAX_LISTED:
            done.unfixed_lines.append(bad)
        files[-1].write(line + b"\n")
        done.rows += len(files) == 1


def _mend(
    number: int, line: bytes, done: FixResult, checker: LineValidator
) -> tuple[list[bytes], UnfixedLine | None]:
    """Return the well-formed lines that a line becomes, or why it is beyond repair."""
    verdict = checker.validate(Line(number, 0, line, len(line) > MAX_LINE_BYTES))
    if verdict.row is not None:
        stripped = line.strip(b" \t\r")
        if stripped != line:
            done.add_repair(number, "white space around the object taken out")
        return [stripped], None
    codes = [bad.code for bad in verdict.json_errors]
    codes += [fault.code for fault in verdict.issues if checker.blocks_training(fault)]
    left = UnfixedLine(number, tuple(dict.fromkeys(codes)))
    try:
        found, said = repair.parse_leniently(line)
    except repair.UnrepairableError:
        return [], left
    rows = []
    for value in found:
        mended, more = repair.repair_row(value) if isinstance(value, dict) else (value, [])
        data = _dump(mended)
        if checker.validate(Line(number, 0, data, len(data) > MAX_LINE_BYTES)).row is None:
            return [], left
        rows.append(data)
        said += more
    for what in said:
        done.add_repair(number, what)
    return rows, None


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _lines(path: str | PathLike[str], done: FixResult) -> Iterator[tuple[int, bytes]]:
    """Yield a file's rows as UTF-8 lines with their numbers, and note what that took."""
    encoding = detect_encoding(path)
    by_line = encoding.codec == CP1252
    if by_line:
        pass  # each line says by itself whether it is
    elif encoding.description == "byte order mark":
        done.add_repair(1, "byte order mark taken out")
    elif encoding.description:
        done.add_repair(1, f"{encoding.description} written as UTF-8")
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        plain = head.removeprefix(encoding.bom).decode(encoding.codec, "replace").encode()
        kind = detect_wrong_format(plain, is_complete=len(head) < HEAD_BYTES)
    name = kind[0] if kind else ""
    if name in ("FILE_JSON_ARRAY", "FILE_PRETTY_PRINTED"):
        if by_line:
            done.add_repair(0, repair.CP1252_REPAIR)
        yield from _elements(path, encoding, done)
        return
    if name in ("FILE_CSV", "FILE_EMPTY"):
        raise ConfigError(
            f"{path} holds no JSON",
            hint="maas-client datasets convert reads CSV." if name == "FILE_CSV" else None,
        )
    if name == "FILE_CR_ONLY":
        done.add_repair(1, "carriage returns alone as line ends")
    elif b"\r\n" in plain:
        done.add_repair(1, "CRLF line ends")
    if not _ends_well(path, encoding):
        done.add_repair(0, "line feed at the end of the file")
    yield from enumerate(read_utf8_lines(path, Encoding("utf-8") if by_line else encoding), 1)


def _ends_well(path: str | PathLike[str], encoding: Encoding) -> bool:
    with open(path, "rb") as file:
        end = "\n".encode(encoding.codec)
        file.seek(-min(len(end), os.path.getsize(path)), os.SEEK_END)
        return file.read() == end


def _elements(
    path: str | PathLike[str], encoding: Encoding, done: FixResult
) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of an array, or the values of a pretty-printed file, one per line."""
    with open(path, "rb") as file:
        data = file.read()[len(encoding.bom) :]
    try:
        found = repair.parse_all_leniently(data.decode(encoding.codec, "replace").strip())
    except repair.UnrepairableError as problem:
        raise ConfigError(
            f"{path} cannot be read as JSON: {problem}",
            hint="Mend its syntax first; a JSON linter names the place.",
        ) from None
    rows = [each for value in found for each in (value if isinstance(value, list) else [value])]
    what = "an array" if isinstance(found[0], list) else "objects over several lines"
    done.add_repair(0, f"{what} written as one object per line")
    for number, value in enumerate(rows, 1):
        yield number, _dump(value)
