"""``datasets split``: one file into training and validation, so that no prompt is in both.

Two passes: the first remembers where each row is and which group it belongs to (24 bytes a row),
the second copies the rows' bytes as they are. Groups are drawn with a seed; the same file and seed
give the same two files on every machine.
"""

from __future__ import annotations

import json
import os
import random
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from os import PathLike
from typing import Any, BinaryIO, Literal

from maas_client.dataset.edit.atomic_write import (
    atomic_write,
    require_distinct_paths,
    require_regular_file,
)
from maas_client.dataset.parsing.lines import JsonError, parse_json, read_lines
from maas_client.errors import ConfigError, DatasetError

GroupBy = Literal["conversation", "prompt", "row"]
GROUP_BY_CHOICES: tuple[GroupBy, ...] = ("conversation", "prompt", "row")
AZURE_SHARE = 0.2
"""What Azure ML cuts off for validation (catalog: ``validation_split``)."""
_PROMPTS = (("messages",), ("prompt",), ("instruction", "input"), ("question",), ("text",))


@dataclass(frozen=True, slots=True)
class DatasetSplit:
    """What was written."""

    path: str
    training: str
    validation: str
    training_rows: int
    validation_rows: int
    groups: int
    """Conversations, prompts or rows that were kept together; 0 for Azure's split."""
    by: str
    seed: int | None
    shuffled: bool

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def split(
    path: str | PathLike[str],
    training: str | PathLike[str],
    validation: str | PathLike[str],
    *,
    validation_share: float = 0.1,
    seed: int = 0,
    by: GroupBy = "conversation",
    shuffle: bool = True,
) -> DatasetSplit:
    """Write a file's rows into two files.

    Args:
        path: JSON Lines; rows of any task, as long as they are objects.
        training, validation: the files to write.
        share: of the rows, what goes to validation; met as nearly as whole groups allow.
        seed: draws the groups and shuffles the rows.
        by: what is kept together: a ``conversation`` (rows with the same system and first user
            message, so that a longer version of a talk stays with the shorter one), a ``prompt``
            (rows that differ in the last answer alone), or a ``row``.
        shuffle: False keeps the rows of each file in the order of the source.

    Nothing is written if this raises: ``OSError``, ``ConfigError`` for arguments that make no sense
    or a file that cannot be split so, ``DatasetError`` for a line that is no object.
    """
    if not 0 < validation_share < 1:
        raise ConfigError(f"share must be between 0 and 1, not {validation_share}")
    if by not in GROUP_BY_CHOICES:
        raise ConfigError(f"cannot split by {by!r}", hint=f"By {', '.join(GROUP_BY_CHOICES)}.")
    require_regular_file(path)
    require_distinct_paths(path, training, validation)
    rows = _Rows(path, by)
    held_out = rows.draw(validation_share, random.Random(seed))  # noqa: S311 - repeatable, not secret
    order = list(range(len(rows)))
    if shuffle:
        random.Random(f"{seed} rows").shuffle(order)  # noqa: S311 - as above
    with open(path, "rb") as source, atomic_write(training, validation) as files:
        for row in order:
            files[held_out[row]].write(rows.read(source, row))
    count = sum(held_out)
    return DatasetSplit(
        os.fspath(path),
        os.fspath(training),
        os.fspath(validation),
        len(rows) - count,
        count,
        rows.groups,
        by,
        seed,
        shuffle,
    )


def split_like_azure(
    path: str | PathLike[str],
    training: str | PathLike[str],
    validation: str | PathLike[str],
    *,
    validation_share: float = AZURE_SHARE,
) -> DatasetSplit:
    """Write the two parts that Azure ML makes of a file without a validation file: the last fifth,
    unshuffled, is validated on. Raises as ``split`` does."""
    require_regular_file(path)
    require_distinct_paths(path, training, validation)
    rows = _Rows(path, "row")
    count = max(1, round(len(rows) * validation_share))
    with open(path, "rb") as source, atomic_write(training, validation) as files:
        for row in range(len(rows)):
            files[row >= len(rows) - count].write(rows.read(source, row))
    names = (os.fspath(path), os.fspath(training), os.fspath(validation))
    return DatasetSplit(*names, len(rows) - count, count, 0, "azure", None, shuffled=False)


class _Rows:
    """Where the rows of a file are, and which belong together. 24 bytes a row."""

    def __init__(self, path: str | PathLike[str], by: GroupBy) -> None:
        self._starts, self._sizes, self._keys = array("Q"), array("Q"), array("Q")
        for line in read_lines(path):
            if not line.data.strip():
                continue
            key = _key(line.data, by, line.number, path) if by != "row" else line.number
            self._starts.append(line.offset)
            self._sizes.append(len(line.data))
            self._keys.append(key)
            if line.truncated:
                raise DatasetError(f"{os.fspath(path)}, line {line.number} is too long")
        self.groups = len(set(self._keys))
        if self.groups < 2:
            raise ConfigError(
                f"{os.fspath(path)} holds {len(self)} rows in {self.groups} groups by {by}: "
                "too few to split",
                hint="Split by prompt or by row (--by)." if len(self) > 1 else None,
            )

    def __len__(self) -> int:
        return len(self._starts)

    def draw(self, share: float, rng: random.Random) -> bytearray:
        """Return for each row whether it goes to validation."""
        sizes = Counter(self._keys)
        drawn = sorted(sizes)
        rng.shuffle(drawn)
        wanted, taken = max(1, round(len(self) * share)), 0
        chosen: set[int] = set()
        for key in drawn:
            if len(chosen) < len(drawn) - 1 and _nearer(taken, sizes[key], wanted):
                chosen.add(key)
                taken += sizes[key]
        if not chosen:
            chosen.add(min(drawn, key=lambda key: sizes[key]))
        return bytearray(key in chosen for key in self._keys)

    def read(self, source: BinaryIO, row: int) -> bytes:
        """Return a row's bytes and a line feed."""
        source.seek(self._starts[row])
        return source.read(self._sizes[row]) + b"\n"


def _nearer(taken: int, more: int, wanted: int) -> bool:
    """Return whether ``more`` rows bring the sum nearer to what is wanted."""
    return abs(taken + more - wanted) < abs(taken - wanted)


def _key(data: bytes, by: GroupBy, number: int, path: str | PathLike[str]) -> int:
    try:
        row = parse_json(data)
    except JsonError:
        row = None
    if not isinstance(row, dict):
        raise DatasetError(
            f"{os.fspath(path)}, line {number} is no JSON object",
            hint=f"See maas-client validate {os.fspath(path)}",
        )
    said = "\0".join(_identity(row, by))
    return int.from_bytes(blake2b(said.encode("utf-8", "replace"), digest_size=8).digest())


def _identity(row: dict[str, Any], by: GroupBy) -> Iterator[str]:
    """Yield the texts that say which group a row belongs to."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        names = next((n for n in _PROMPTS if all(name in row for name in n)), tuple(sorted(row)))
        yield from (_text(row[name]) for name in names)
        return
    kept = messages[:-1] if by == "prompt" else _beginning(messages)
    for message in kept:
        yield str(message.get("role"))
        yield _text(message.get("content"))
        if message.get("tool_calls"):
            yield _text(message["tool_calls"])


def _beginning(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return everything up to the first user message."""
    first = next((at for at, m in enumerate(messages) if m.get("role") == "user"), 0)
    return messages[: first + 1]


def _text(value: Any) -> str:
    """Return a text in the form in which it is compared: case and white space do not count."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return " ".join(text.casefold().split())
