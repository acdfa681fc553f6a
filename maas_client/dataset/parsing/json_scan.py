"""Strict JSON with the place of everything: slow, exact, for lines that need explaining.

RFC 8259 and nothing beside it. What cannot be read ends the scan; what can be read but would be
read differently elsewhere (duplicate keys, NaN, lone surrogates, integers no double holds) is noted
and the scan goes on, so that one look finds every such fault. Never recurses deeper than the cap.
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
"""Values on a line; a chat has dozens, and a bomb is not read to its end."""
MAX_ERRORS: Final = 100
"""Faults of one line; the scan ends with the one after them."""
MAX_INTEGER: Final = 2**53
"""Beyond it a JSON number is not the same integer for every reader."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'"([^"\\\x00-\x1f]*)"')
_BODY = (
    rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+'  # possessive: never tried twice
)
_ESCAPED = re.compile(_BODY + b'"')
_STRING_SO_FAR = re.compile(_BODY)
_PIECE = re.compile(
    rb'[^"\\]+|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.'  # a pair of escapes is one character
)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBERLIKE = re.compile(rb"[-+.0-9][-+.0-9a-zA-Z_]*")
_WORD = re.compile(rb"[A-Za-z_$][A-Za-z0-9_$]*")
_LONE = re.compile("[\ud800-\udfff]")
_LOW = (b"dc", b"dd", b"de", b"df")
_NOT_FINITE = {b"NaN", b"nan", b"Infinity", b"inf", b"Inf"}
_LITERALS = {b"true": True, b"false": False, b"null": None}
_PYTHON = {b"None": "null", b"True": "true", b"False": "false", b"undefined": "null"}
_COMMENTS = (b"//", b"/*", b"#")
_SMART_QUOTES = (b"\xe2\x80\x9c", b"\xe2\x80\x9d", b"\xe2\x80\x98", b"\xe2\x80\x99")


class JsonError(ValueError):
    """Why a line is not strict JSON. ``byte_column`` counts bytes of the line from 1.

    ``message`` says what is different from case to case; it never holds the line's text.
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
    """What a scan found. ``value`` means nothing when ``broken``."""

    value: Any = None
    errors: list[JsonError] = field(default_factory=list)
    aborted: bool = False
    """True: the last fault ended the scan."""
    spans: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    """Where values that were asked for begin and end, in bytes; of a duplicate key the last one."""
    key_offsets: dict[KeyPath, int] = field(default_factory=dict)
    """Where the keys of members that were asked for begin, in bytes."""

    @property
    def has_duplicate_keys(self) -> bool:
        """Whether two readers would see different objects."""
        return any(fault.code == "JSON_DUPLICATE_KEY" for fault in self.errors)


def scan_json(data: bytes, paths: Iterable[KeyPath] = ()) -> JsonDocument:
    """Read the one value in ``data``; faults are in the document, never raised.

    ``spans`` and ``keys`` hold ``places``, as far as they are there, and what holds them.
    """
    document = JsonDocument()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as bad:
        document.errors.append(JsonError("JSON_UTF8", bad.start + 1, _bytes_at(data, bad.start)))
        document.aborted = True
        return document
    wanted = {path[:n] for path in paths for n in range(len(path) + 1)}
    run = _Scan(data, document, wanted)
    try:
        run.line()
    except JsonError as bad:
        document.errors.append(bad)
        document.aborted = True
    return document


def _bytes_at(data: bytes, at: int) -> str:
    """Name bad bytes by their values: a byte is not text of the row."""
    shown = data[at : at + 1].hex().upper()
    if data[at] in (0xED,) and at + 1 < len(data) and data[at + 1] >= 0xA0:
        return f"byte {shown} begins a surrogate, which UTF-8 does not have"
    return f"byte {shown}"


class _Scan:
    """One scan over one line."""

    def __init__(self, data: bytes, document: JsonDocument, wanted: set[KeyPath]) -> None:
        self.data = data
        self.document = document
        self.wanted = wanted
        self.values = 0

    def line(self) -> None:
        at = self._space(0)
        if self.data.startswith(b"\xef\xbb\xbf", at):
            self._fail("JSON_BOM", at, "")
        if at == len(self.data):
            self._fail("JSON_BLANK_LINE", 0, "")
        self.document.value, end = self._value(at, (), 1)
        end = self._space(end)
        if end < len(self.data):
            self._rest(end)

    def _rest(self, at: int) -> None:
        data = self.data
        if data[at] == 0:
            self._fail("JSON_NUL", at, "after the value")
        if data[at : at + 1] in (b"{", b"[", b'"') or _NUMBER.match(data, at):
            self._fail("JSON_SEVERAL_VALUES", at, "")
        if data.startswith(_COMMENTS, at):
            self._fail("JSON_COMMENT", at, "")
        comma = data[at : at + 1] == b","
        if comma and data[self._space(at + 1) :][:1] in (b"{", b"["):
            self._fail("JSON_SEVERAL_VALUES", at, "with commas between them")
        self._fail("JSON_TRAILING_DATA", at, "a comma" if comma else self._unseen(at).strip(" ()"))

    def _space(self, at: int) -> int:
        if self.data[at : at + 1] > b" ":  # the common case, without a pattern
            return at
        return _SPACE.match(self.data, at).end()  # type: ignore[union-attr] # matches always

    def _value(self, at: int, path: KeyPath, depth: int) -> tuple[Any, int]:
        self.values += 1
        if self.values > MAX_VALUES:
            self._fail("JSON_TOO_MANY_VALUES", at, f"more than {MAX_VALUES:,}")
        begin = self.data[at : at + 1]
        value: Any
        if begin == b'"':
            value, end = self._string(at, path)
        elif begin == b"{":
            value, end = self._object(at, path, depth)
        elif begin == b"[":
            value, end = self._array(at, path, depth)
        elif begin in b"-0123456789" and begin:
            value, end = self._number(at, path)
        else:
            value, end = self._literal(at, path)
        if path in self.wanted:
            self.document.spans[path] = (at, end)
        return value, end

    def _object(self, at: int, path: KeyPath, depth: int) -> tuple[dict[str, Any], int]:
        data = self.data
        found: dict[str, Any] = {}
        met: dict[str, int] = {}
        self._check_depth(at, depth)
        pos = self._space(at + 1)
        if data[pos : pos + 1] == b"}":
            return found, pos + 1
        while True:
            if data[pos : pos + 1] != b'"':
                self._not_a_key(pos)
            key, end = self._string(pos, path)
            inner = (*path, key)
            if key in found:
                self._note("JSON_DUPLICATE_KEY", pos, f"first at byte {met[key] + 1}", inner)
            met[key] = pos
            if inner in self.wanted:
                self.document.key_offsets[inner] = pos
            pos = self._space(end)
            if data[pos : pos + 1] != b":":
                self._fail_or_cut("JSON_SYNTAX", pos, "a colon is missing after a key")
            found[key], pos = self._value(self._space(pos + 1), inner, depth + 1)
            pos, more = self._next(pos, b"}")
            if not more:
                return found, pos

    def _array(self, at: int, path: KeyPath, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        self._check_depth(at, depth)
        pos = self._space(at + 1)
        if self.data[pos : pos + 1] == b"]":
            return found, pos + 1
        while True:
            value, pos = self._value(pos, (*path, len(found)), depth + 1)
            found.append(value)
            pos, more = self._next(pos, b"]")
            if not more:
                return found, pos

    def _check_depth(self, at: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            self._fail("JSON_DEPTH", at, f"more than {MAX_DEPTH} levels")

    def _next(self, at: int, close: bytes) -> tuple[int, bool]:
        """Step over what stands behind a member: return where to go on, and whether one follows."""
        at = self._space(at)
        here = self.data[at : at + 1]
        if here == close:
            return at + 1, False
        if here == b",":
            after = self._space(at + 1)
            if self.data[after : after + 1] in (b"}", b"]"):
                self._fail("JSON_TRAILING_COMMA", at, "")
            return after, True
        kind = "an object" if close == b"}" else "an array"
        return self._fail_or_cut("JSON_SYNTAX", at, f"a comma or the end of {kind} is missing")

    def _string(self, at: int, path: KeyPath) -> tuple[str, int]:
        if plain := _PLAIN.match(self.data, at):
            return plain[1].decode(), plain.end()
        match = _ESCAPED.match(self.data, at)
        if match is None:
            self._bad_string(at)
        value: str = json.loads(match[0])
        if _LONE.search(value):
            self._note_lone(at, match[0], path)
        return value, match.end()

    def _note_lone(self, at: int, raw: bytes, path: KeyPath) -> None:
        lone = _lone_escape(raw)
        self._note("JSON_SURROGATE", at + lone, "", path)

    def _number(self, at: int, path: KeyPath) -> tuple[int | float | None, int]:
        like = _NUMBERLIKE.match(self.data, at)
        match = _NUMBER.match(self.data, at)
        if match is None or like is None or match.end() != like.end():
            if self.data.startswith(b"-Infinity", at) or self.data.startswith(b"-inf", at):
                return self._literal(at, path)
            self._fail("JSON_NUMBER", at, "")
        end = match.end()
        if match[1] is None and match[2] is None:
            if end - at > 400 or abs(int(match[0])) > MAX_INTEGER:
                self._note("JSON_INTEGER_RANGE", at, "", path)
                return 0 if end - at > 400 else int(match[0]), end
            return int(match[0]), end
        value = float(match[0])
        if value in (float("inf"), float("-inf")):
            self._note("JSON_NOT_FINITE", at, "too large for a double", path)
        return value, end

    def _literal(self, at: int, path: KeyPath) -> tuple[Any, int]:
        sign = 1 if self.data[at : at + 1] == b"-" else 0
        match = _WORD.match(self.data, at + sign)
        word = match[0] if match else b""
        if word in _NOT_FINITE and match:
            self._note("JSON_NOT_FINITE", at, "-" * sign + word.decode(), path)
            return None, match.end()
        if word in _LITERALS and match:
            return _LITERALS[word], match.end()
        return self._not_a_value(at, word)

    def _not_a_value(self, at: int, word: bytes) -> NoReturn:
        here = self.data[at : at + 1]
        if word in _PYTHON:
            said = f"{word.decode()} is {_PYTHON[word]} in JSON"
            self._fail("JSON_PYTHON", at, said)
        if here == b"'":
            self._fail("JSON_PYTHON", at, "strings take double quotes in JSON")
        if here in (b",", b"}", b"]", b":"):
            self._fail("JSON_SYNTAX", at, f"a value is missing before '{here.decode()}'")
        if here in (b"+", b".") and self.data[at + 1 : at + 2].isdigit():
            self._fail("JSON_SYNTAX", at, "a number begins with a digit or a minus sign")
        self._other(at, "no JSON value begins here")

    def _not_a_key(self, at: int) -> NoReturn:
        if self.data[at : at + 1] == b"'":
            self._fail("JSON_PYTHON", at, "keys take double quotes in JSON")
        if _WORD.match(self.data, at):
            self._fail("JSON_SYNTAX", at, "a key without quotes")
        self._other(at, "a key in double quotes is missing")

    def _other(self, at: int, message: str) -> NoReturn:
        """Say what stands where something else should."""
        if self.data.startswith(_COMMENTS, at):
            self._fail("JSON_COMMENT", at, "")
        if self.data.startswith(_SMART_QUOTES, at):
            self._fail("JSON_SYNTAX", at, "typographic quotes are not JSON's quotes")
        if self.data.startswith(b"\xef\xbb\xbf", at):
            self._fail("JSON_BOM", at, "")
        self._fail_or_cut("JSON_SYNTAX", at, message + self._unseen(at))

    def _unseen(self, at: int) -> str:
        """Name the character at a place if nobody can see it: a space that is none, a mark, a control."""
        here = self.data[at : at + 4].decode("utf-8", "ignore")[:1]
        return f" (U+{ord(here):04X} stands here)" if here and not here.isprintable() else ""

    def _bad_string(self, at: int) -> NoReturn:
        end = _STRING_SO_FAR.match(self.data, at).end()  # type: ignore[union-attr] # has its quote
        here = self.data[end : end + 1]
        if not here:
            self._fail("JSON_CUT_SHORT", at, "a string is never closed")
        if here == b"\\":
            if end + 1 >= len(self.data):
                self._fail("JSON_CUT_SHORT", end, "the line ends inside an escape")
            self._fail("JSON_ESCAPE", end, "")
        if here == b"\0":
            self._fail("JSON_NUL", end, "")
        self._fail("JSON_CONTROL_CHARACTER", end, f"U+{here[0]:04X}")

    def _note(self, code: str, at: int, message: str, path: KeyPath) -> None:
        """Remember a fault that does not end the scan, unless there are too many of them."""
        fault = JsonError(code, at + 1, message, path=path)
        if len(self.document.errors) >= MAX_ERRORS:
            raise fault
        self.document.errors.append(fault)

    def _fail_or_cut(self, code: str, at: int, message: str) -> NoReturn:
        if at >= len(self.data):
            code, message = "JSON_CUT_SHORT", "the line ends before its value does"
            at = max(len(self.data) - 1, 0)
        if at < len(self.data) and self.data[at] == 0:
            code, message = "JSON_NUL", ""
        raise JsonError(code, at + 1, message)

    def _fail(self, code: str, at: int, message: str) -> NoReturn:
        raise JsonError(code, at + 1, message)


def byte_offset(data: bytes, begin: int, character: int) -> int:
    """Return where a character is written of the text whose JSON string begins at a byte.

    The string is one that was read. Beyond its text: where the closing quote is.
    """
    at, left = begin + 1, character
    while left and data[at : at + 1] not in (b'"', b""):
        piece = _PIECE.match(data, at)
        assert piece is not None  # the alternatives cover a string that was read
        if data[at] == ord("\\"):
            left -= 1
        elif left < len(text := piece[0].decode()):
            return at + len(text[:left].encode())
        else:
            left -= len(text)
        at = piece.end()
    return at


def _lone_escape(raw: bytes) -> int:
    """Return where in a raw JSON string its first lone surrogate is escaped."""
    at = 0
    while (at := raw.find(b"\\", at)) >= 0:
        if raw[at + 1 : at + 2] != b"u":
            at += 2
            continue
        high = 0xD800 <= int(raw[at + 2 : at + 6], 16) < 0xDC00
        paired = raw[at + 6 : at + 8] == b"\\u" and raw[at + 8 : at + 10].lower() in _LOW
        if high and paired:
            at += 12
        elif raw[at + 2 : at + 4].lower() in _LOW or high:
            return at
        else:
            at += 6
    return 0
