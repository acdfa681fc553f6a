"""A text that is not printed: keys, tokens and signed addresses.

Tracebacks with local variables (``rich``, ``pytest --showlocals``, error trackers) print the ``repr`` of what
each function had in hand. A ``Secret`` is a ``str`` in every other way, so it can be sent as it is. What is
made from it (an f-string, ``+``) is a plain ``str`` and must be wrapped again.
"""

from __future__ import annotations

import re
from typing import SupportsIndex

_SIGNATURE = re.compile(r"(?i)([?&](?:sig|signature|key|code|token|sas)=)[^&]+")


_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


def find_invalid_character(secret: str) -> str | None:
    """Return what makes a key or token unfit for an HTTP header, in words; None if nothing does."""
    if _HEADER_VALUE.fullmatch(secret):
        return None
    if not secret:
        return "it is empty"
    if "\n" in secret or "\r" in secret:
        return "it contains a line break"
    return "it contains a space" if " " in secret else "it contains a character that is not ASCII"


class Secret(str):
    """A key, a token or a header that contains one. Its ``repr`` is ``'**********'``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"

    def __getitem__(self, index: SupportsIndex | slice) -> Secret:
        """Return a part, which is as secret as the whole: rich shortens long values before it prints them."""
        return type(self)(super().__getitem__(index))


class SignedUrl(Secret):
    """An address that may contain a SAS. Its ``repr`` shows the address without the signature."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_SIGNATURE.sub(r"\1**********", str(self)))

    def __getitem__(self, index: SupportsIndex | slice) -> Secret:
        return Secret(str(self)[index])


def hide(secret: str | None) -> Secret | None:
    """Wrap a key that may be missing."""
    return None if secret is None else Secret(secret)
