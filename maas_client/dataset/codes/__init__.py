"""Every code that ``validate`` can give: its severity per target, its words, its page.

The one place for all of them. A code is never renamed once released; its prefix says its kind:
``FILE_`` the file as a whole, ``JSON_`` a line that is not strict JSON in UTF-8, ``CHAT_`` and
``TOOL_`` a row that is not a good conversation, ``SERVICE_`` what the target does with it,
``QUALITY_``, ``SECRET_`` and ``PII_`` what is in it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

from maas_client.dataset.codes._code import Code, Severity, SeverityByTarget, Target
from maas_client.errors import ConfigError

__all__ = [
    "Code",
    "Severity",
    "SeverityByTarget",
    "Target",
    "all_codes",
    "get_code",
    "resolve_codes",
]


@lru_cache(maxsize=1)
def all_codes() -> dict[str, Code]:
    """Return every code by its name, in the order of the documentation."""
    from maas_client.dataset.codes import _chat, _content, _file, _json, _policy, _service, _tool

    tables = (_file, _json, _chat, _content, _tool, _service, _policy)
    return {code.name: code for table in tables for code in table.CODES}


def get_code(name: str) -> Code:
    """Return a code. Raises ``KeyError``: a name that is not in the table is a mistake of ours."""
    return all_codes()[name]


def resolve_codes(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set; a name that ends in ``*`` or ``_`` means all that begin so.

    Raises ``ConfigError`` for one that is not a code, naming the nearest.
    """
    known, found = all_codes(), set()
    for name in names:
        plain = name.strip().upper()
        group = plain.rstrip("*")
        if plain in known:
            found.add(plain)
        elif group != plain or group.endswith("_"):
            members = {other for other in known if group and other.startswith(group)}
            if not members:
                raise _unknown(name)
            found |= members
        else:
            raise _unknown(name)
    return frozenset(found)


def _unknown(name: str) -> ConfigError:
    close = difflib.get_close_matches(name.strip().upper(), all_codes(), n=2, cutoff=0.5)
    near = f"Did you mean {' or '.join(close)}? " if close else ""
    return ConfigError(
        f"{name!r} is not a code of validate",
        hint=near + "docs/codes/ lists all of them.",
    )
