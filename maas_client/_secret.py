"""A text that is not printed: keys, tokens and signed addresses.

Tracebacks with local variables (``rich``, ``pytest --showlocals``, error trackers) print the ``repr`` of what
each function had in hand. A ``Secret`` is a ``str`` in every other way, so it can be sent as it is. What is
made from it (an f-string, ``+``) is a plain ``str`` and must be wrapped again.
"""

from __future__ import annotations

import re
from typing import SupportsIndex

_SIGNATURE = re.compile(r"(?i)([?&](?:sig|signature|key|code|token|sas)=)[^&]+")


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
