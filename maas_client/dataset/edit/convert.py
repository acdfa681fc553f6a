"""``datasets convert``: CSV, arrays and the shapes of other tasks to chat lines.

What a file is, is told from its content. Every row is converted or named with the reason why not;
a file that is mostly something else is refused.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from maas_client.dataset.edit import repair
from maas_client.dataset.edit.atomic_write import (
    atomic_write,
    require_distinct_paths,
    require_regular_file,
)
from maas_client.dataset.edit.encoding import Encoding, detect_encoding, read_utf8_lines
from maas_client.dataset.edit.formats import (
    ROW_FORMATS,
    ConversionError,
    Row,
    detect_row_format,
    omitted_parts,
    parse_cells,
    rename_keys,
)
from maas_client.dataset.parsing.file_type import HEAD_BYTES, detect_wrong_format
from maas_client.errors import ConfigError, DatasetError

MAX_LISTED = 1000
csv.field_size_limit(1 << 26)


@dataclass(slots=True)
class ConversionResult:
    """What became of a file."""

    path: str
    out: str
    file_format: str = ""
    """What the file is: JSON Lines, a JSON array, CSV with commas, ..."""
    rows: int = 0
    """Chat lines written."""
    row_formats: Counter[str] = field(default_factory=Counter)
    """How many rows had which form."""
    omitted: Counter[str] = field(default_factory=Counter)
    """How often something of a row was left out, by what it was."""
    rejected: Counter[str] = field(default_factory=Counter)
    """How many rows could not be converted, by reason."""
    rejected_rows: list[tuple[int, str]] = field(default_factory=list)
    """The first of them, with their numbers (lines, or rows of a table or array) and reasons."""

    @property
    def ok(self) -> bool:
        """Return whether every row was converted."""
        return not self.rejected

    def reject(self, number: int, reason: str) -> None:
        """Count a row that cannot be converted."""
        self.rejected[reason] += 1
        if len(self.rejected_rows) < MAX_LISTED:
            self.rejected_rows.append((number, reason))

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {
            "ok": self.ok,
            "path": self.path,
            "out": self.out,
            "container": self.file_format,
            "rows": self.rows,
            "forms": dict(self.row_formats),
            "left_out": dict(self.omitted),
            "refused": dict(self.rejected),
            "places": [{"row": number, "reason": why} for number, why in self.rejected_rows],
        }


def convert(
    path: str | PathLike[str],
    out: str | PathLike[str],
    *,
    row_format: str | None = None,
    columns: Sequence[tuple[str, str]] = (),
    system: str | None = None,
    skip_invalid: bool = False,
) -> ConversionResult:
    """Write a file's rows as chat lines.

    Args:
        path: JSON Lines, a JSON array, pretty-printed objects, or CSV with a header.
        out: where the chat lines go.
        form: what the rows are (a key of ``forms.FORMS``); told from their keys if not given.
        columns: members to rename before, ``(theirs, ours)``: ``[("Frage", "prompt")]``.
        system: a system message for every row that has none.
        skip: write what can be converted though other rows cannot.

    Nothing is written if this raises: ``OSError``, ``ConfigError`` for a file or form that is
    unknown, ``DatasetError`` for rows that cannot be converted (unless ``skip``).
    """
    if row_format is not None and row_format not in ROW_FORMATS:
        raise ConfigError(
            f"no form named {row_format!r}", hint=f"Forms are {', '.join(ROW_FORMATS)}."
        )
    require_regular_file(path)
    require_distinct_paths(path, out)
    done = ConversionResult(os.fspath(path), os.fspath(out))
    with atomic_write(out) as (file,):
        for number, row in _rows(path, done):
            chat = _one(number, row, done, row_format, columns)
            if chat is not None:
                if system and chat["messages"][0].get("role") != "system":
                    chat["messages"].insert(0, {"role": "system", "content": system})
                file.write(json.dumps(chat, ensure_ascii=False).encode() + b"\n")
                done.rows += 1
        _check(done, skip=skip_invalid)
    return done


def _one(
    number: int,
    row: Any,
    done: ConversionResult,
    form: str | None,
    columns: Sequence[tuple[str, str]],
) -> Row | None:
    if not isinstance(row, dict):
        done.reject(number, "no object" if row is not _UNREADABLE else "no JSON")
        return None
    row = rename_keys(row, columns)
    name = form or detect_row_format(row)
    if name is None:
        done.reject(number, f"unknown keys: {_shown(row)}")
        return None
    try:
        chat = ROW_FORMATS[name](row)
        json.dumps(chat, ensure_ascii=False).encode()
    except ConversionError as why:
        done.reject(number, f"{name}: {why}")
        return None
    except UnicodeEncodeError:
        done.reject(number, f"{name}: half a character (a lone surrogate)")
        return None
    if not chat["messages"] or not isinstance(chat["messages"][0], dict):
        done.reject(number, f"{name}: no messages in it")
        return None
    done.row_formats[name] += 1
    done.omitted.update(omitted_parts(name, row, chat))
    return chat


def _shown(row: Row) -> str:
    """Name a row's keys, which are a file's columns and no one's secret."""
    return ", ".join(sorted(str(key)[:30] for key in row)[:6]) or "none"


def _check(done: ConversionResult, *, skip: bool) -> None:
    if done.rows and (done.ok or skip):
        return
    if not done.rows and not done.rejected:
        raise ConfigError(f"{done.path} holds no rows")
    number, reason = done.rejected_rows[0]
    count = done.rejected.total()
    raise DatasetError(
        f"{done.path}: {count:,} of {count + done.rows:,} rows cannot be converted; the first is "
        f"row {number} ({reason})",
        hint=_advice(reason, some=bool(done.rows)),
    )


def _advice(reason: str, *, some: bool) -> str:
    skip = "leave such rows out (--skip)" if some else ""
    if reason.endswith("missing or empty"):
        steps = ["Fill it in", "name the column it stands in (--column THEIRS=OURS)", skip]
    elif some or "unknown keys" in reason:
        steps = ["Name the form (--form)", "the columns (--column THEIRS=OURS)", skip]
    else:
        return "Name the form with --form, if it is another one."
    *before, last = filter(None, steps)
    return f"{', '.join(before)}, or {last}." if len(before) > 1 else f"{before[0]} or {last}."


_UNREADABLE = object()


def _rows(path: str | PathLike[str], done: ConversionResult) -> Iterator[tuple[int, Any]]:
    """Yield a file's rows with their numbers, and note what kind of file it is."""
    encoding = detect_encoding(path)
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES).removeprefix(encoding.bom)
    plain = head.decode(encoding.codec, "replace").encode()
    kind = (detect_wrong_format(plain, is_complete=os.path.getsize(path) <= HEAD_BYTES) or ("",))[0]
    if kind in ("FILE_JSON_ARRAY", "FILE_PRETTY_PRINTED"):
        done.file_format = "a JSON array" if kind == "FILE_JSON_ARRAY" else "pretty-printed JSON"
        yield from enumerate(_elements(path, encoding), 1)
    elif plain.lstrip()[:1] in (b"{", b"["):
        done.file_format = "JSON Lines"
        yield from _lines(path, encoding)
    elif plain.strip():
        yield from _table(path, encoding, plain, done)
    else:
        raise ConfigError(f"{path} is empty")


def _lines(path: str | PathLike[str], encoding: Encoding) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(read_utf8_lines(path, encoding), 1):
        if not line.strip():
            continue
        try:
            values, _ = repair.parse_leniently(line)
        except repair.UnrepairableError:
            values = [_UNREADABLE]
        for value in values:
            inner = _only_list(value) if isinstance(value, dict) else None
            yield from ((number, each) for each in ([value] if inner is None else inner))


def _elements(path: str | PathLike[str], encoding: Encoding) -> Iterator[Any]:
    try:
        with open(path, "rb") as file:
            text = file.read()[len(encoding.bom) :].decode(encoding.codec)
        values = repair.parse_all_leniently(text.strip())
    except (repair.UnrepairableError, UnicodeDecodeError) as problem:
        why = problem.reason if isinstance(problem, UnicodeDecodeError) else problem
        raise ConfigError(f"{path} cannot be read as JSON: {why}") from None
    for value in values:
        if isinstance(value, list):
            yield from value
        elif isinstance(value, dict) and isinstance(inner := _only_list(value), list):
            yield from inner
        else:
            yield value


def _only_list(value: Row) -> list[Any] | None:
    """Return the rows of ``{"data": [...]}``, or None for what is a row itself."""
    found = [inner for key, inner in value.items() if key.casefold() in ("data", "rows", "train")]
    return found[0] if len(found) == 1 and isinstance(found[0], list) else None


def _table(
    path: str | PathLike[str], encoding: Encoding, head: bytes, done: ConversionResult
) -> Iterator[tuple[int, Row]]:
    first = head.lstrip().partition(b"\n")[0].decode("utf-8", "replace")
    mark = max((",", ";", "\t", "|"), key=first.count)
    if not first.count(mark):
        raise ConfigError(
            f"{path} is neither JSON nor a table with a header",
            hint="Give JSON Lines, a JSON array, or CSV whose first line names the columns.",
        )
    names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
    done.file_format = f"a table separated by {names[mark]}"
    with open(path, "rb") as file:
        file.seek(len(encoding.bom))
        text = io.TextIOWrapper(file, encoding=encoding.codec, newline="")
        try:
            for number, row in enumerate(csv.DictReader(text, delimiter=mark, strict=True), 1):
                yield number, _cells(number, row, done)
        except UnicodeDecodeError:
            raise ConfigError(
                f"{path} is in no single encoding (row {done.rows + 1} or a little further on)",
                hint="Save it as UTF-8.",
            ) from None
        except csv.Error as problem:
            raise ConfigError(
                f"{path} breaks off as a table after row {done.rows}: {problem}",
                hint="A quote that is never closed is the usual cause.",
            ) from None


def _cells(number: int, row: dict[Any, Any], done: ConversionResult) -> Any:
    """Return a row as it stands; one with more cells than columns is none."""
    if None in row:
        return _UNREADABLE
    cells = {str(key): value or "" for key, value in row.items()}
    filled = parse_cells({key: value for key, value in cells.items() if value != ""})
    if detect_row_format(filled) is None and detect_row_format(cells) is not None:
        return cells  # its columns are those of a form, so that is what is said of the empty cell
    return filled
