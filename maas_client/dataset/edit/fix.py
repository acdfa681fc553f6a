"""``validate --fix``: write a corrected copy of a chat file and list what was repaired.

Only repairs that lose no data: encoding, line ends, an array to lines, extra commas, duplicate keys
with equal values, the case of known keys and roles. A line that would need a guess stays unchanged; with
``drop`` it is written to a second file instead.
"""

from __future__ import annotations

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
from maas_client.dataset.edit.encoding import (
    CP1252,
    Encoding,
    detect_encoding,
    read_head,
    read_utf8_lines,
)
from maas_client.dataset.edit.json_stream import JsonStreamError, read_json_elements
from maas_client.dataset.parsing.file_type import detect_wrong_format
from maas_client.dataset.parsing.lines import MAX_LINE_BYTES, Line
from maas_client.dataset.rules.chat import LineResult, LineValidator
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.sources import open_valid_source, stem_of
from maas_client.errors import ConfigError, DatasetError

_ALWAYS_REPAIRABLE = frozenset({"JSON_CONTROL_CHARACTER", "JSON_TRAILING_COMMA"})
"""Errors that are never why a line cannot be repaired, if it has another one."""
MAX_LISTED = 1000
"""Entries that each list of a result holds at most."""


@dataclass(frozen=True, slots=True)
class UnfixedLine:
    """A line that could not be repaired."""

    line: int
    codes: tuple[str, ...]
    """The codes that block it: those of ``validate`` without the ones that could be repaired."""


@dataclass(slots=True)
class FixResult:
    """What ``fix`` did to a file."""

    path: str
    out: str
    dropped_path: str | None = None
    """The file with the dropped lines; None without ``drop`` or if no line was dropped."""
    rows: int = 0
    """Number of lines written."""
    repairs: Counter[str] = field(default_factory=Counter)
    """How often each repair was made."""
    repaired_lines: list[tuple[int, str]] = field(default_factory=list)
    """The first repairs: the line in the source (0 for the whole file) and the repair."""
    unfixed_lines: list[UnfixedLine] = field(default_factory=list)
    """The first lines that could not be repaired."""
    unfixed_count: int = 0
    """Number of lines that could not be repaired."""

    @property
    def ok(self) -> bool:
        """Return whether at least one line was written and all written lines are valid."""
        return self.rows > 0 and (self.dropped_path is not None or not self.unfixed_count)

    def add_repair(self, line: int, repair: str) -> None:
        """Count a repair and list it while there is room."""
        self.repairs[repair] += 1
        if len(self.repaired_lines) < MAX_LISTED:
            self.repaired_lines.append((line, repair))

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON."""
        fields = {
            "dropped_path": self.dropped_path,
            "repaired_lines": [
                {"line": line, "repair": name} for line, name in self.repaired_lines
            ],
            "unfixed_count": self.unfixed_count,
            "unfixed_lines": [{"line": u.line, "codes": list(u.codes)} for u in self.unfixed_lines],
        }
        older_names = ("beside", "places", "beyond_repair", "left")
        return {
            "ok": self.ok,
            "path": self.path,
            "out": self.out,
            "rows": self.rows,
            "repairs": dict(self.repairs),
            **fields,
            **dict(zip(older_names, fields.values(), strict=True)),
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
    """Write a corrected copy of a chat file.

    Args:
        path: The file: JSON Lines, an array or pretty-printed JSON, in UTF-8, UTF-16, UTF-32 or
            Windows-1252, all also compressed with gzip; or Parquet.
        out: The file to write. It may be ``path`` itself only with ``in_place``.
        drop: Leave out lines that cannot be repaired and write them to ``OUT.dropped.jsonl``. Without it they
            are copied unchanged. Default: False.
        in_place: Allow ``out`` to be ``path``; default: False.
        target: The service that the rows are checked for, see ``validate``; default: ``azureml``.
        model: The model that the rows are checked for, see ``validate``; default: none.

    Returns:
        The repairs, and the lines that could not be repaired.

    Raises:
        ConfigError: ``out`` cannot be written.
        DatasetError: The file is not JSON.
        OSError: A file cannot be read or written.

    Nothing is written if an error is raised.
    """
    require_regular_file(path)
    dropped = dropped_path_for(out)
    if not in_place:
        require_distinct_paths(path, out)
    if drop:
        require_distinct_paths(path, dropped)
    validator = LineValidator(build_context(target, model))
    result = FixResult(os.fspath(path), os.fspath(out))
    with (
        open_valid_source(path) as data,
        atomic_write(out, dropped) if drop else atomic_write(out) as files,
    ):
        if data.is_copy and os.path.realpath(path) == os.path.realpath(out):
            raise ConfigError(
                f"{data.name} is {data.format} and cannot be fixed in place",
                hint="Give another file to write.",
            )
        _write(_read_rows(data.path, result), result, validator, files)
    if drop and result.unfixed_count:
        result.dropped_path = os.fspath(dropped)
    elif drop:
        os.unlink(dropped)
    return result


def dropped_path_for(out: str | PathLike[str]) -> Path:
    """Return the path of the file for dropped lines."""
    return Path(out).with_name(f"{stem_of(out)}.dropped.jsonl")


def _write(
    source: Iterator[tuple[int, bytes]],
    result: FixResult,
    validator: LineValidator,
    files: tuple[BinaryIO, ...],
) -> None:
    """Repair line by line. Lines that cannot be repaired go to the last file."""
    for number, line in source:
        if not line.strip():
            result.add_repair(number, "removed a blank line")
            continue
        if not line.strip(b"\0"):
            result.add_repair(number, "removed a line of NUL bytes")
            continue
        rows, unfixed = _repair_line(number, line, result, validator)
        for row in rows:
            files[0].write(row + b"\n")
            result.rows += 1
        if unfixed is None:
            continue
        result.unfixed_count += 1
        if len(result.unfixed_lines) < MAX_LISTED:
            result.unfixed_lines.append(unfixed)
        files[-1].write(line + b"\n")
        result.rows += len(files) == 1


def _repair_line(
    number: int, line: bytes, result: FixResult, validator: LineValidator
) -> tuple[list[bytes], UnfixedLine | None]:
    """Return the valid lines that a line becomes, or why it cannot be repaired."""
    checked = validator.validate(Line(number, 0, line, len(line) > MAX_LINE_BYTES))
    is_repairable = any(issue.code in repair.REPAIRABLE_WARNINGS for issue in checked.issues)
    if checked.row is not None and not is_repairable:
        stripped = line.strip(b" \t\r")
        if stripped != line:
            result.add_repair(number, "removed white space around the object")
        return [stripped], None
    unfixed = UnfixedLine(number, _error_codes(checked, validator))
    try:
        values, repairs = repair.parse_leniently(line)
    except repair.UnrepairableError:
        blocking = tuple(code for code in unfixed.codes if code not in _ALWAYS_REPAIRABLE)
        return [], UnfixedLine(number, blocking or unfixed.codes)
    rows = []
    for value in values:
        row, row_repairs = repair.repair_row(value)
        data = repair.dump_json(row)
        if checked.row is not None and row_repairs == [] and not repairs:
            return [line.strip(b" \t\r")], None  # a warning that needs a decision
        repaired = validator.validate(Line(number, 0, data, len(data) > MAX_LINE_BYTES))
        if repaired.row is None:
            return [], UnfixedLine(number, _error_codes(repaired, validator) or unfixed.codes)
        rows.append(data)
        repairs += row_repairs
    for name in repairs:
        result.add_repair(number, name)
    return rows, None


def _error_codes(checked: LineResult, validator: LineValidator) -> tuple[str, ...]:
    codes = [error.code for error in checked.json_errors]
    codes += [issue.code for issue in checked.issues if validator.blocks_training(issue)]
    return tuple(dict.fromkeys(codes))


def _read_rows(path: str | PathLike[str], result: FixResult) -> Iterator[tuple[int, bytes]]:
    """Yield a file's rows as UTF-8 lines with their numbers, and record the repairs of the file."""
    encoding = detect_encoding(path)
    by_line = encoding.codec == CP1252
    if by_line:
        pass  # recorded for each line that is converted
    elif encoding.description == "byte order mark":
        result.add_repair(1, "removed the byte order mark")
    elif encoding.description:
        result.add_repair(1, f"converted {encoding.description} to UTF-8")
    text, is_complete = read_head(path, encoding)
    problem = detect_wrong_format(text, is_complete=is_complete)
    code = problem.code if problem else ""
    if code in ("FILE_JSON_ARRAY", "FILE_PRETTY_PRINTED"):
        if by_line:
            result.add_repair(0, repair.CP1252_REPAIR)
        yield from _read_values(path, encoding, result)
        return
    if code in ("FILE_CSV", "FILE_EMPTY"):
        raise DatasetError(
            f"{result.path} contains no JSON",
            hint="Convert it: maas-client datasets convert FILE OUT.jsonl"
            if code == "FILE_CSV"
            else None,
        )
    if code == "FILE_CR_ONLY":
        result.add_repair(1, "replaced carriage returns as line ends")
    elif b"\r\n" in text:
        result.add_repair(1, "replaced CRLF line ends")
    if not _ends_with_line_feed(path, encoding):
        result.add_repair(0, "added a line feed at the end of the file")
    yield from enumerate(read_utf8_lines(path, Encoding("utf-8") if by_line else encoding), 1)


def _ends_with_line_feed(path: str | PathLike[str], encoding: Encoding) -> bool:
    with open(path, "rb") as file:
        end = "\n".encode(encoding.codec)
        file.seek(-min(len(end), os.path.getsize(path)), os.SEEK_END)
        return file.read() == end


def _read_values(
    path: str | PathLike[str], encoding: Encoding, result: FixResult
) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of an array, or the values of a pretty-printed file, one per line."""
    number, source = 0, "objects that span several lines"
    if read_head(path, encoding)[0].lstrip()[:1] == b"[":
        source = "an array"

    def note_other_keys() -> None:
        result.add_repair(0, "left out what is beside the rows of the file")

    try:
        for element in read_json_elements(path, encoding, note_other_keys):
            values, _ = repair.parse_leniently(element)
            for value in values:
                number += 1
                yield number, repair.dump_json(value)
    except (repair.UnrepairableError, JsonStreamError) as error:
        raise DatasetError(
            f"{result.path} cannot be read as JSON: {error} (row {number + 1})",
            hint="Fix its syntax first. A JSON linter shows where it is wrong.",
        ) from None
    result.add_repair(0, f"wrote {source} as one object per line")
