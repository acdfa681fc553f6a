"""Split the text of a JSON array, or of values one after the other, into its elements, in constant memory."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from os import PathLike
from typing import TextIO

from maas_client.dataset.edit.encoding import Encoding
from maas_client.dataset.parsing.file_type import WRAPPED_ROWS
from maas_client.dataset.parsing.lines import MAX_LINE_BYTES

_CHUNK_CHARS = 256 * 1024
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
_WRAPPER = re.compile(WRAPPED_ROWS, re.IGNORECASE)
_SPACE = " \t\r\n"


class JsonStreamError(ValueError):
    """The text is not a sequence of JSON values, or a value is too long."""


class _Window:
    """The part of the text that is not yet yielded."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.text = ""

    def read(self) -> bool:
        """Append the next part of the text; return whether there was one."""
        chunk = self._file.read(max(_CHUNK_CHARS, len(self.text)))
        self.text += chunk
        if len(self.text) > 2 * MAX_LINE_BYTES:
            raise JsonStreamError(f"a value is longer than {MAX_LINE_BYTES >> 20} MiB")
        return bool(chunk)


def iter_json_elements(file: TextIO, on_rest: Callable[[], None] | None = None) -> Iterator[str]:
    """Yield the text of each element of the arrays in a text, and of each value outside of an array.

    The elements of ``{"data": [...]}`` (also ``rows`` and ``train``) are those of its array. The texts are
    split at brackets and commas outside of strings; whether they are JSON is not checked.

    Args:
        file: The text.
        on_rest: Called if ``{"data": [...]}`` has other members, which are not read.

    Raises:
        JsonStreamError: A bracket is not closed, or a value is longer than 16 MiB.
    """
    window = _Window(file)
    window.read()
    wrapper = _WRAPPER.match(window.text)
    if wrapper:
        window.text = f"[{window.text[wrapper.end() :]}"
    depth, base, start, position = 0, 0, 0, 0
    while True:
        token = _TOKEN.search(window.text, position)
        if token is None or (token[0] == '"'):
            # the rest has no bracket, or begins with a string whose end is not read yet
            rest = token.start() if token else len(window.text)
            window.text, start, position = window.text[start:], 0, rest - start
            if window.read():
                continue
            break
        position = token.end()
        mark = token[0]
        if mark in "[{":
            if depth == 0 and mark == "[":
                base, start = 1, position
            elif depth == 0:
                start = token.start()
            depth += 1
        elif mark in "]}" and depth:
            depth -= 1
            if base and depth == 0:
                yield from _filled(window.text[start : token.start()])
                base, start = 0, position
                if wrapper:
                    has_rest = window.text[position:].lstrip(_SPACE)[:1] == ","
                    if on_rest and (wrapper[1] or has_rest):
                        on_rest()
                    return
            elif not base and depth == 0:
                yield from _filled(window.text[start:position])
                start = position
        elif mark == "," and depth == base:
            if base:
                yield from _filled(window.text[start : token.start()])
            start = position
    if depth:
        raise JsonStreamError("the text ends inside an array or an object")
    yield from _filled(window.text[start:])


def _filled(text: str) -> Iterator[str]:
    text = text.strip(_SPACE)
    if text:
        yield text


def read_json_elements(
    path: str | PathLike[str], encoding: Encoding, on_rest: Callable[[], None] | None = None
) -> Iterator[bytes]:
    """Yield the elements of a file as ``iter_json_elements`` does, in UTF-8.

    Raises:
        JsonStreamError: As ``iter_json_elements``, or the bytes are not text in this encoding.
    """
    with open(path, "rb") as file:
        file.seek(len(encoding.bom))
        text = io.TextIOWrapper(file, encoding=encoding.codec, newline="")
        try:
            for element in iter_json_elements(text, on_rest):
                yield element.encode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise JsonStreamError(error.reason) from None
