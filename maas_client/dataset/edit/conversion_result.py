"""What ``convert`` did with a file: its counts, the rows that it rejected, and the error for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from maas_client._messages import Argument, Text
from maas_client.dataset.formats import Row, RowFormat
from maas_client.dataset.formats.fields import HIDDEN_KEY, KeyCounts, KeyNote, Note
from maas_client.errors import DatasetError

MAX_LISTED = 1000
"""Rejected rows, and unknown keys, that a result lists at most."""


@dataclass(slots=True)
class ConversionResult:
    """What ``convert`` did with a file."""

    path: str
    out: str
    file_format: str = ""
    """The type of the file: JSON Lines, a JSON array, a table separated by commas, ..."""
    rows: int = 0
    """Number of rows written."""
    row_formats: Counter[str] = field(default_factory=Counter)
    """Number of converted rows by format."""
    omitted: Counter[str] = field(default_factory=Counter)
    """How often a part of a row was omitted, by description."""
    omitted_keys: KeyCounts = field(default_factory=KeyCounts, repr=False)
    """The keys that were omitted, until the file was read."""
    unknown_keys: KeyCounts = field(default_factory=KeyCounts, repr=False)
    """The keys of rows in no known format, until the file was read."""
    unknown_rows: list[tuple[int, list[str]]] = field(default_factory=list, repr=False)
    """The first rows in no known format, with their keys, until the file was read."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Number of rows that could not be converted, by reason."""
    unwanted: int = 0
    """Number of rows left out because they say that their answer must not be learned."""
    rejected_rows: list[tuple[int, str]] = field(default_factory=list)
    """The first rejected rows: the number (of the line, or of the row in a table or array) and the reason."""

    unused_keys: list[str] = field(default_factory=list)
    """Keys of ``ignore_keys`` that no row has."""
    most_keys: tuple[Collection[str], RowFormat | None] = field(default=((), None), repr=False)
    """The keys of the converted row that has the most, and its format."""

    @property
    def ok(self) -> bool:
        """Return whether every row was converted."""
        return not self.rejected

    @property
    def rows_read(self) -> int:
        """Return the number of rows of the file."""
        return self.rows + self.unwanted + self.rejected.total()

    def format_of_more_keys(self, row: Row) -> RowFormat | None:
        """Return the format of a converted row that has all keys of this one, as rows of a table have.

        Empty cells of DataFrames are left out of their rows.
        """
        keys, row_format = self.most_keys
        return row_format if row.keys() < set(keys) else None

    def reject(self, number: int, reason: str) -> None:
        """Count a row that cannot be converted and list it while there is room."""
        if reason not in self.rejected and len(self.rejected) >= MAX_LISTED:
            reason = "other reasons"
        self.rejected[reason] += 1
        if len(self.rejected_rows) < MAX_LISTED:
            self.rejected_rows.append((number, reason))

    def reject_unknown(self, number: int, keys: list[str]) -> None:
        """Count a row that is in no known format."""
        for key in keys:
            self.unknown_keys.add(KeyNote(key))
        if len(self.unknown_rows) < MAX_LISTED:
            self.unknown_rows.append((number, keys))
        else:
            self.rejected["unknown keys"] += 1

    def omit(self, note: Note) -> None:
        """Count a part of a row that is not converted."""
        if isinstance(note, KeyNote):
            self.omitted_keys.add(note)
        else:
            self.omitted[note] += 1

    def name_keys(self) -> None:
        """Describe the keys that were omitted or are unknown, after the file was read."""
        for key, place, count in self.omitted_keys.described(self.rows):
            self.omitted[f"key {key} of {place}" if place else f"key {key}"] += count
        count = len(self.unknown_rows)
        for number, keys in self.unknown_rows:
            names = [self.unknown_keys.describe(KeyNote(key), count) for key in keys]
            reason = f"unknown keys: {_list_names(names)}"
            if reason not in self.rejected and len(self.rejected) >= MAX_LISTED:
                reason = "other reasons"
            self.rejected[reason] += 1
            self.rejected_rows.append((number, reason))
        self.rejected_rows = sorted(self.rejected_rows)[:MAX_LISTED]

    def to_dict(self) -> dict[str, Any]:
        """Return the result, ready for JSON."""
        fields = {
            "file_format": self.file_format,
            "row_formats": dict(self.row_formats),
            "omitted": dict(self.omitted),
            "rejected": dict(self.rejected),
            "rejected_rows": [{"row": row, "reason": reason} for row, reason in self.rejected_rows],
        }
        older_names = ("container", "forms", "left_out", "refused", "places")
        return {
            "ok": self.ok,
            "path": self.path,
            "out": self.out,
            "rows": self.rows,
            "rows_read": self.rows_read,
            "unused_keys": self.unused_keys,
            **fields,
            **dict(zip(older_names, fields.values(), strict=True)),
        }


def raise_if_rejected(result: ConversionResult, *, skip_invalid: bool) -> None:
    """Raise if rows were rejected (without ``skip_invalid``), or none was converted."""
    if result.rows and (result.ok or skip_invalid):
        return
    if not result.rows and not result.rejected:
        if not result.unwanted:
            raise DatasetError(f"{result.path} contains no rows", hint="Give a file with data.")
        reasons = ", ".join(sorted(result.omitted))
        key = re.search(r"unwanted: (\S+) (?:marks|is)\b", reasons)
        raise DatasetError(
            f"{result.path}: none of {result.unwanted:,} rows can be trained on ({reasons})",
            hint=Text.format(
                "If the rows are to be learned, ignore the key ({}).",
                Argument("ignore_keys", [key[1]]) if key else Argument("ignore_keys"),
            ),
        )
    number, reason = result.rejected_rows[0]
    count = result.rejected.total()
    raise DatasetError(
        f"{result.path}: {count:,} of {count + result.rows + result.unwanted:,} rows cannot be converted; "
        f"the first is row {number} ({reason})" + _describe_unused(result.unused_keys),
        hint=_suggest_steps(reason, some_converted=bool(result.rows)),
    )


def _describe_unused(keys: Sequence[str]) -> str:
    return f"; no row has the key {' or '.join(keys)}" if keys else ""


def _suggest_steps(reason: str, *, some_converted: bool) -> Text:
    row_format = Argument("row_format")
    rename = Text.format("rename the columns ({})", Argument("columns"))
    if "no column has a known name" in reason:
        steps = [
            Text("Write the column names in the first line, such as prompt,completion"),
            rename,
        ]
    elif reason.endswith("missing or empty"):
        steps = [Text("Fill it in"), rename]
    elif reason.endswith("cannot be converted"):
        steps = [
            Text("Write its text into a message"),
            Text.format("convert without it ({})", _ignore_key(reason)),
        ]
    elif "unknown keys" in reason:
        steps = [Text.format("Give the format ({})", row_format), rename]
    elif some_converted:
        steps = [Text("Fix the rows")]
    else:
        return Text.format(
            "Fix the rows. If the detected format is wrong, give it with {}.", row_format
        )
    if some_converted:
        steps.append(Text.format("skip such rows ({})", Argument("skip_invalid", True)))
    *first, last = steps
    separator = ", or " if len(first) > 1 else " or "
    return Text(", ").join(first) + separator + last + "."


def _ignore_key(reason: str) -> Argument:
    """Return the argument that ignores the key that a reason names."""
    match = re.search(r"the key (\w+) (?:of \w+ \w+ )?cannot", reason)
    return Argument("ignore_keys", [match[1]]) if match else Argument("ignore_keys")


def _list_names(keys: Sequence[str]) -> str:
    """Return the first of some keys, and how many are not shown."""
    names = sorted(key for key in keys if key != HIDDEN_KEY)[:6]
    hidden = len(keys) - len(names)
    hidden_note = f"{hidden} not shown" if hidden else ""
    return " and ".join(part for part in (", ".join(names), hidden_note) if part)
