"""One operation of a service: a row of the treaty that both houses read.

The client sends from these rows (``_transport``), the local server routes from them
(``local/http/app.py``). A row knows no I/O. Path templates use Starlette's form: ``{name}`` is one
segment, ``{name:path}`` may hold slashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

from maas_client.errors import ConfigError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Plane(Enum):
    """Which part of Azure answers; decides the base address and the credential."""

    ARM = "arm"
    HISTORY = "history"
    """Run history and metrics of a workspace: ``https://{region}.api.azureml.ms``."""
    BLOB = "blob"
    INFERENCE = "inference"
    """A serverless endpoint, with its own key."""
    FOUNDRY = "foundry"
    """A Foundry resource: OpenAI-shaped files, jobs and chat."""
    ANONYMOUS = "open"
    """No credential of ours: discovery documents and SAS addresses."""


ResendPolicy = Literal["safe", "refused", "never"]
"""What may be sent again without asking first. ``safe``: the outcome of two is the outcome of one.
``refused``: only when the service said that it did nothing (429, 503 with Retry-After, a connection
that was never made). ``never``: not even then."""

Body = Literal["json", "xml", "bytes", "multipart", "none"]


@dataclass(frozen=True, slots=True)
class Op(Generic[T_co]):
    """``name`` is noun.verb; ``returns`` is a pydantic model, ``dict``, ``bytes``, ``str`` or
    ``type(None)``; ``ok`` are the success codes; ``query`` is always sent."""

    name: str
    method: Literal["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]
    plane: Plane
    path: str
    returns: type[T_co]
    ok: tuple[int, ...] = (200,)
    resend: ResendPolicy = "safe"
    body: Body = "none"
    query: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Response(Generic[T_co]):
    """What came back: the value the row promised, and the parts of HTTP a flow may ask for."""

    value: T_co
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""


_FIELD = re.compile(r"\{(\w+)(:path)?\}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


def expand_path(template: str, values: Mapping[str, str]) -> str:
    """Fill a path template; each value is checked and percent-encoded.

    Raises ``ConfigError`` for a missing value, or one that would change the path's shape
    (``/``, ``?``, ``#``, control characters, ``.`` or ``..`` as a segment).
    """

    def fill(match: re.Match[str]) -> str:
        name, deep = match.group(1), bool(match.group(2))
        value = values.get(name)
        if not value:
            raise ConfigError(f"no value for {name!r}", hint=f"Give {name.replace('_', ' ')}.")
        parts = value.split("/") if deep else [value]
        if _UNSAFE.search(value) or any(p in (".", "..") or "/" in p for p in parts):
            raise ConfigError(
                f"{value!r} cannot be used as {name.replace('_', ' ')}",
                hint="Names take letters, digits, '-', '_' and '.', without slashes.",
            )
        return quote(value, safe="/-_.~" if deep else "-_.~")

    return _FIELD.sub(fill, template)


def build_url(
    op: Op[Any],
    base_url: str,
    values: Mapping[str, str],
    query: Mapping[str, str] | None = None,
) -> str:
    """Return the full URL of ``op`` at a base address (which may carry a query of its own: a SAS)."""
    base, _, held = base_url.partition("?")
    said = urlencode({**op.query, **(query or {})}, quote_via=quote, safe="")
    joined = "&".join(part for part in (said, held) if part)
    return base.rstrip("/") + expand_path(op.path, values) + (f"?{joined}" if joined else "")
