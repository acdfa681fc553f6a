"""Make lines that are nearly chat lines: valid rows with a few random changes to the value or the bytes."""
# ruff: noqa: E501 - tables

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from tests.unit.dataset.corpus import BROKEN_LINES, VALID_FILES

_SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, 1.0, 0.5, "", " ", "\u00a0", "x", "user", "assistant", "system",
    "tool", "function", "call_1", "call_2", "weather", "{}", '{"city": "Ulm"}', "[]", "null", '"{}"',
    "<|end|>", "\0", 'a "quoted" word', "\\", "é", "日本", "😀", [], {}, [{}], ["x"], {"type": "text"},
    {"type": "text", "text": "x"}, [{"type": "text", "text": "x"}], {"type": "object"},
)  # fmt: skip
_KEYS = (
    "messages", "role", "content", "name", "weight", "tool_calls", "tool_call_id", "tools", "type",
    "function", "arguments", "id", "parameters", "text", "functions", "function_call",
    "parallel_tool_calls", "description", "x",
)  # fmt: skip
_FRAGMENTS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\r", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"\\u0022", b"\\u0000", b"\\ud800", b"\\\"", b"NaN", b"1e999", b"-", b"9" * 30, b"null", b"//",
    b'"role": "user", ', b'"content": "x", ', b"\xe2\x80\xa8", b"'", b"\\u003c", b"<|end|>",
)  # fmt: skip

BASES: list[bytes] = list(
    dict.fromkeys(
        line
        for lines in (
            *[data.split(b"\n") for name, data in VALID_FILES.items() if name != "long texts"],
            [fault.line for fault in BROKEN_LINES if len(fault.line) < 2000],
        )
        for line in lines
        if line.strip()
    )
)


def make_value(rng: random.Random) -> Any:
    """Return a row with up to three changes, as a JSON value."""
    while True:
        try:
            row = json.loads(rng.choice(BASES).decode("utf-8-sig"))
        except ValueError:
            continue
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
            row = mutate(row, rng)
        return row


def mutate(
    tree: Any,
    rng: random.Random,
    keys: Sequence[str] = _KEYS,
    values: Sequence[Any] = _SCALARS,
) -> Any:
    """Return a JSON value after one change: a value, a key or an order."""
    members = list(_members(tree))
    if not members:
        return deepcopy(rng.choice(values))
    container, key = rng.choice(members)
    roll = rng.random()
    if roll < 0.4:
        container[key] = deepcopy(rng.choice(values))
    elif roll < 0.55:
        del container[key]
    elif roll < 0.7 and isinstance(container, dict):
        container[rng.choice(keys)] = container.pop(key)
    elif roll < 0.8 and isinstance(container, dict):
        container[rng.choice(keys)] = deepcopy(rng.choice(values))
    elif isinstance(container, list):
        container.insert(
            rng.randint(0, len(container)), json.loads(json.dumps(rng.choice(container)))
        )
        if rng.random() < 0.5:
            rng.shuffle(container)
    return tree


def _members(tree: Any) -> Any:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _members(tree[key])


def serialize(value: Any, rng: random.Random) -> bytes:
    """Return a value as JSON, with random separators and escapes."""
    separators = rng.choice(((", ", ": "), (",", ":"), (" ,\t", " :  ")))
    return json.dumps(value, ensure_ascii=rng.random() < 0.3, separators=separators).encode(
        "utf-8", "surrogatepass"
    )


def make_line(rng: random.Random) -> bytes:
    """Return a line without a line feed: a changed row, changed bytes, or random bytes."""
    roll = rng.random()
    if roll < 0.03:
        return rng.randbytes(rng.randint(0, 60)).replace(b"\n", b"")
    data = rng.choice(BASES) if roll < 0.4 else serialize(make_value(rng), rng)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4)) if roll < 0.8 else 0):
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice((0, 0, 1, 1, 2, 8)))
        data = data[:at] + rng.choice(_FRAGMENTS) + data[end:]
    return data.replace(b"\n", b"")
