"""Scan one line as strict JSON and locate every error and value: slow, for lines that need it.

RFC 8259 and nothing more. A syntax error ends the scan. What one reader accepts and another reads
differently (duplicate keys, NaN, lone surrogates, integers that no double represents) is recorded and
the scan goes on, so that one scan finds all of them. Never recurses deeper than the depth limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from maas_client.dataset.issues import KeyPath

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 250_000
"""Values on a line; a chat has dozens. A line with more is not read to its end."""
MAX_ERRORS: Final = 100
"""Recorded errors of one line; the next one ends the scan."""
MAX_INTEGER: Final = 2**53
"""Larger JSON integers are not the same number for every reader."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_SIMPLE_STRING = re.compile(rb'"([^"\\\x00-\x1f]*)"')
_STRING_START = (
    rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+'  # possessive: no backtracking
)
_STRING = re.compile(_STRING_START + b'"')
_VALID_PART = re.compile(_STRING_START)
_CHARACTERS = re.compile(
    rb'[^"\\]+|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.'  # a pair of escapes is one character
)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBER_LIKE = re.compile(rb"[-+.0-9][-+.0-9a-zA-Z_]*")
_WORD = re.compile(rb"[A-Za-z_$][A-Za-z0-9_$]*")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LOW_SURROGATES = (b"dc", b"dd", b"de", b"df")
_NOT_FINITE = {b"NaN", b"nan", b"Infinity", b"inf", b"Inf"}
_LITERALS = {b"true": True, b"false": False, b"null": None}
_PYTHON = {b"None": "null", b"True": "true", b"False": "false", b"undefined": "null"}
_COMMENTS = (b"//", b"/*", b"#")
_SMART_QUOTES = (b"\xe2\x80\x9c", b"\xe2\x80\x9d", b"\xe2\x80\x98", b"\xe2\x80\x99")


class JsonError(ValueError):
    """Why a line is not strict JSON; collected in a document more often than raised.

    Attributes:
        code: The ``JSON_`` code.
        byte_column: The position of the error, in bytes of the line from 1.
        message: What differs from case to case; it never contains the text of the line.
        path: The keys and indices of the value that the error is about, if it is one.
    """

    def __init__(self, code: str, byte_column: int, message: str, *, path: KeyPath = ()) -> None:
        super().__init__(f"{code} at byte {byte_column}: {message}")
        self.code = code
        self.byte_column = byte_column
        self.message = message
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.byte_column, self.message)


@dataclass(slots=True)
class JsonDocument:
    """The result of a scan. ``value`` is meaningless if the scan was aborted."""

    value: Any = None
    errors: list[JsonError] = field(default_factory=list)
    aborted: bool = False
    """True: the last error ended the scan."""
    spans: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    """Start and end of the requested values, in bytes; the last one for a duplicate key."""
    key_offsets: dict[KeyPath, int] = field(default_factory=dict)
    """Start of the requested members' keys, in bytes."""

    @property
    def has_duplicate_keys(self) -> bool:
        """Whether an object has two equal keys, so that readers disagree about its value."""
        return any(error.code == "JSON_DUPLICATE_KEY" for error in self.errors)


def scan_json(data: bytes, paths: Iterable[KeyPath] = ()) -> JsonDocument:
    """Scan the one value in ``data``; errors are in the document, never raised.

    The document's ``spans`` and ``key_offsets`` have the values at ``paths`` and their containers, as
    far as they exist.
    """
    document = JsonDocument()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        detail = _describe_byte(data, error.start)
        document.errors.append(JsonError("JSON_UTF8", error.start + 1, detail))
        document.aborted = True
        return document
    requested = {path[:n] for path in paths for n in range(len(path) + 1)}
    try:
        _Scanner(data, document, requested).scan()
    except JsonError as error:
        document.errors.append(error)
        document.aborted = True
    return document


def _describe_byte(data: bytes, at: int) -> str:
    """Return an invalid byte's value; it is safe to print because it is not text of the row."""
    value = data[at : at + 1].hex().upper()
    if data[at] in (0xED,) and at + 1 < len(data) and data[at + 1] >= 0xA0:
        return f"byte {value} begins a surrogate, which UTF-8 does not allow"
    return f"byte {value}"


class _Scanner:
    """The state of one scan over one line."""

    def __init__(self, data: bytes, document: JsonDocument, requested: set[KeyPath]) -> None:
        self.data = data
        self.document = document
        self.requested = requested
        self.values = 0

    def scan(self) -> None:
        """Scan the whole line. Raises ``JsonError`` for the error that ends the scan."""
        at = self._skip_space(0)
        if self.data.startswith(b"\xef\xbb\xbf", at):
            self._fail("JSON_BOM", at, "")
        if at == len(self.data):
            self._fail("JSON_BLANK_LINE", 0, "")
        self.document.value, end = self._value(at, (), 1)
        end = self._skip_space(end)
        if end < len(self.data):
            self._fail_after_value(end)

    def _fail_after_value(self, at: int) -> NoReturn:
        """Fail with what follows the end of the value."""
        data = self.data
        if data[at] == 0:
            self._fail("JSON_NUL", at, "after the value")
        if data[at : at + 1] in (b"{", b"[", b'"') or _NUMBER.match(data, at):
            self._fail("JSON_SEVERAL_VALUES", at, "")
        if data.startswith(_COMMENTS, at):
            self._fail("JSON_COMMENT", at, "")
        is_comma = data[at : at + 1] == b","
        if is_comma and data[self._skip_space(at + 1) :][:1] in (b"{", b"["):
            self._fail("JSON_SEVERAL_VALUES", at, "with commas between them")
        self._fail(
            "JSON_TRAILING_DATA", at, "a comma" if is_comma else self._invisible(at).strip(" ()")
        )

    def _skip_space(self, at: int) -> int:
        if self.data[at : at + 1] > b" ":  # the common case, without a pattern
            return at
        return _SPACE.match(self.data, at).end()  # type: ignore[union-attr] # matches always

    def _value(self, at: int, path: KeyPath, depth: int) -> tuple[Any, int]:
        self.values += 1
        if self.values > MAX_VALUES:
            self._fail("JSON_TOO_MANY_VALUES", at, f"more than {MAX_VALUES:,}")
        first = self.data[at : at + 1]
        value: Any
        if first == b'"':
            value, end = self._string(at, path)
        elif first == b"{":
            value, end = self._object(at, path, depth)
        elif first == b"[":
            value, end = self._array(at, path, depth)
        elif first in b"-0123456789" and first:
            value, end = self._number(at, path)
        else:
            value, end = self._literal(at, path)
        if path in self.requested:
            self.document.spans[path] = (at, end)
        return value, end

    def _object(self, at: int, path: KeyPath, depth: int) -> tuple[dict[str, Any], int]:
        data = self.data
        members: dict[str, Any] = {}
        offsets: dict[str, int] = {}
        self._check_depth(at, depth)
        pos = self._skip_space(at + 1)
        if data[pos : pos + 1] == b"}":
            return members, pos + 1
        while True:
            if data[pos : pos + 1] != b'"':
                self._fail_key(pos)
            key, end = self._string(pos, path)
            member = (*path, key)
            if key in members:
                self._record("JSON_DUPLICATE_KEY", pos, f"first at byte {offsets[key] + 1}", member)
            offsets[key] = pos
            if member in self.requested:
                self.document.key_offsets[member] = pos
            pos = self._skip_space(end)
            if data[pos : pos + 1] != b":":
                self._fail_syntax(pos, "a colon is missing after a key")
            members[key], pos = self._value(self._skip_space(pos + 1), member, depth + 1)
            pos, has_next = self._next(pos, b"}")
            if not has_next:
                return members, pos

    def _array(self, at: int, path: KeyPath, depth: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        self._check_depth(at, depth)
        pos = self._skip_space(at + 1)
        if self.data[pos : pos + 1] == b"]":
            return items, pos + 1
        while True:
            value, pos = self._value(pos, (*path, len(items)), depth + 1)
            items.append(value)
            pos, has_next = self._next(pos, b"]")
            if not has_next:
                return items, pos

    def _check_depth(self, at: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            self._fail("JSON_DEPTH", at, f"more than {MAX_DEPTH} levels")

    def _next(self, at: int, close: bytes) -> tuple[int, bool]:
        """Skip what follows a member: return where to continue, and whether another member follows."""
        at = self._skip_space(at)
        here = self.data[at : at + 1]
        if here == close:
            return at + 1, False
        if here == b",":
            after = self._skip_space(at + 1)
            if self.data[after : after + 1] in (b"}", b"]"):
                self._fail("JSON_TRAILING_COMMA", at, "")
            return after, True
        kind = "an object" if close == b"}" else "an array"
        return self._fail_syntax(at, f"a comma or the end of {kind} is missing")

    def _string(self, at: int, path: KeyPath) -> tuple[str, int]:
        if simple := _SIMPLE_STRING.match(self.data, at):
            return simple[1].decode(), simple.end()
        match = _STRING.match(self.data, at)
        if match is None:
            self._fail_string(at)
        value: str = json.loads(match[0])
        if _LONE_SURROGATE.search(value):
            self._record("JSON_SURROGATE", at + _lone_escape(match[0]), "", path)
        return value, match.end()

    def _number(self, at: int, path: KeyPath) -> tuple[int | float | None, int]:
        whole = _NUMBER_LIKE.match(self.data, at)
        match = _NUMBER.match(self.data, at)
        if match is None or whole is None or match.end() != whole.end():
            if self.data.startswith(b"-Infinity", at) or self.data.startswith(b"-inf", at):
                return self._literal(at, path)
            self._fail("JSON_NUMBER", at, "")
        end = match.end()
        if match[1] is None and match[2] is None:
            if end - at > 400 or abs(int(match[0])) > MAX_INTEGER:
                self._record("JSON_INTEGER_RANGE", at, "", path)
                return 0 if end - at > 400 else int(match[0]), end
            return int(match[0]), end
        value = float(match[0])
        if value in (float("inf"), float("-inf")):
            self._record("JSON_NOT_FINITE", at, "too large for a double", path)
        return value, end

    def _literal(self, at: int, path: KeyPath) -> tuple[Any, int]:
        sign = 1 if self.data[at : at + 1] == b"-" else 0
        match = _WORD.match(self.data, at + sign)
        word = match[0] if match else b""
        if word in _NOT_FINITE and match:
            self._record("JSON_NOT_FINITE", at, "-" * sign + word.decode(), path)
            return None, match.end()
        if word in _LITERALS and match:
            return _LITERALS[word], match.end()
        return self._fail_value(at, word)

    def _fail_value(self, at: int, word: bytes) -> NoReturn:
        here = self.data[at : at + 1]
        if word in _PYTHON:
            self._fail("JSON_PYTHON", at, f"{word.decode()} is {_PYTHON[word]} in JSON")
        if here == b"'":
            self._fail("JSON_PYTHON", at, "JSON strings need double quotes")
        if here in (b",", b"}", b"]", b":"):
            self._fail("JSON_SYNTAX", at, f"a value is missing before '{here.decode()}'")
        if here in (b"+", b".") and self.data[at + 1 : at + 2].isdigit():
            self._fail("JSON_SYNTAX", at, "a number begins with a digit or a minus sign")
        self._fail_other(at, "no JSON value begins here")

    def _fail_key(self, at: int) -> NoReturn:
        if self.data[at : at + 1] == b"'":
            self._fail("JSON_PYTHON", at, "JSON keys need double quotes")
        if _WORD.match(self.data, at):
            self._fail("JSON_SYNTAX", at, "a key without quotes")
        self._fail_other(at, "a key in double quotes is missing")

    def _fail_other(self, at: int, message: str) -> NoReturn:
        """Fail at an unexpected character with the most specific error."""
        if self.data.startswith(_COMMENTS, at):
            self._fail("JSON_COMMENT", at, "")
        if self.data.startswith(_SMART_QUOTES, at):
            self._fail("JSON_SYNTAX", at, "typographic quotes are not JSON quotes")
        if self.data.startswith(b"\xef\xbb\xbf", at):
            self._fail("JSON_BOM", at, "")
        self._fail_syntax(at, message + self._invisible(at))

    def _invisible(self, at: int) -> str:
        """Return the character at a position if it is not visible: odd spaces, marks, controls."""
        char = self.data[at : at + 4].decode("utf-8", "ignore")[:1]
        return f" (found U+{ord(char):04X})" if char and not char.isprintable() else ""

    def _fail_string(self, at: int) -> NoReturn:
        end = _VALID_PART.match(self.data, at).end()  # type: ignore[union-attr] # has its quote
        here = self.data[end : end + 1]
        if not here:
            self._fail("JSON_CUT_SHORT", at, "a string is not closed")
        if here == b"\\":
            if end + 1 >= len(self.data):
                self._fail("JSON_CUT_SHORT", end, "the line ends inside an escape")
            self._fail("JSON_ESCAPE", end, "")
        if here == b"\0":
            self._fail("JSON_NUL", end, "")
        self._fail("JSON_CONTROL_CHARACTER", end, f"U+{here[0]:04X}")

    def _record(self, code: str, at: int, message: str, path: KeyPath) -> None:
        """Record an error that does not end the scan, unless there are too many of them."""
        error = JsonError(code, at + 1, message, path=path)
        if len(self.document.errors) >= MAX_ERRORS:
            raise error
        self.document.errors.append(error)

    def _fail_syntax(self, at: int, message: str) -> NoReturn:
        code = "JSON_SYNTAX"
        if at >= len(self.data):
            code, message = "JSON_CUT_SHORT", "the line ends before its value ends"
            at = max(len(self.data) - 1, 0)
        if at < len(self.data) and self.data[at] == 0:
            code, message = "JSON_NUL", ""
        raise JsonError(code, at + 1, message)

    def _fail(self, code: str, at: int, message: str) -> NoReturn:
        raise JsonError(code, at + 1, message)


def byte_offset(data: bytes, start: int, char_offset: int) -> int:
    """Return the byte at which a character of a JSON string is written.

    Args:
        data: The line.
        start: Where the string's opening quote is. The string is a valid one.
        char_offset: The character of the decoded string; beyond its end: the closing quote.
    """
    position, remaining = start + 1, char_offset
    while remaining and data[position : position + 1] not in (b'"', b""):
        match = _CHARACTERS.match(data, position)
        assert match is not None  # the alternatives cover every valid string
        if data[position] == ord("\\"):
            remaining -= 1
        elif remaining < len(text := match[0].decode()):
            return position + len(text[:remaining].encode())
        else:
            remaining -= len(text)
        position = match.end()
    return position


def _lone_escape(raw: bytes) -> int:
    """Return the offset of the first escaped lone surrogate in a raw JSON string."""
    at = 0
    while (at := raw.find(b"\\", at)) >= 0:
        if raw[at + 1 : at + 2] != b"u":
            at += 2
            continue
        high = 0xD800 <= int(raw[at + 2 : at + 6], 16) < 0xDC00
        paired = raw[at + 6 : at + 8] == b"\\u" and raw[at + 8 : at + 10].lower() in _LOW_SURROGATES
        if high and paired:
            at += 12
        elif raw[at + 2 : at + 4].lower() in _LOW_SURROGATES or high:
            return at
        else:
            at += 6
    return 0
