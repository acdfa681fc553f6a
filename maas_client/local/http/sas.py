"""Shared access signatures (SAS): creating those of this server, and checking all of them.

A SAS that this server creates looks like a user delegation SAS (it has ``skoid``) and is signed with the
server's secret over all its fields: a changed field or signature is refused. A SAS without ``skoid`` is
signed with an account key. A server without an API key accepts any account key, as it accepts any other
credential, so that the signature can only be checked for its form; all other fields are checked.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

from maas_client._clock import utc_time
from maas_client.local.resources.errors import ApiError

SCOPE_KEY = "maas.sas"
"""Key in an ASGI scope: the ``Sas`` of the request; absent with another credential."""
FIELDS = frozenset(
    {"sv", "ss", "srt", "sr", "sp", "st", "se", "spr", "sip", "si", "sig", "skoid", "sktid", "skt", "ske",
     "sks", "skv", "ses", "rscc", "rscd", "rsce", "rscl", "rsct"}
)  # fmt: skip
"""The query parameters that belong to a SAS."""
_OBJECT_ID = "6d616173-2d63-4c69-856e-742d6c6f6361"
"""``skoid`` of this server's signatures."""
Level = Literal["service", "container", "blobs", "object"]
"""``blobs`` is the list of a container's blobs, which a SAS for the container permits."""


@dataclass(frozen=True, slots=True)
class Sas:
    """What a SAS permits."""

    permissions: str
    levels: frozenset[Level]

    def check(self, level: Level, permissions: str) -> None:
        """Raise ``ApiError`` (403) unless it permits an operation at ``level`` with one of ``permissions``."""
        if level not in self.levels:
            raise ApiError(
                403,
                "AuthorizationResourceTypeMismatch",
                "This request is not authorized to perform this operation using this resource type.",
            )
        if not set(permissions) & set(self.permissions):
            raise ApiError(
                403,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            )


def make_sas(secret: bytes, container: str, hours: float, permissions: str = "racwdl") -> str:
    """Return a SAS for a container, signed by this server and valid for ``hours``."""
    expires = utc_time() + timedelta(hours=hours)
    fields = {
        "sv": "2024-11-04",
        "sr": "c",
        "sp": permissions,
        "se": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "skoid": _OBJECT_ID,
    }
    return urlencode({**fields, "sig": _signature(secret, container, fields)})


def check_sas(
    secret: bytes,
    container: str,
    query: Mapping[str, str],
    *,
    scheme: str,
    client_host: str,
    accepts_account_keys: bool,
) -> Sas:
    """Return what a SAS permits. Raises ``ApiError`` (403) for one that is not valid.

    Args:
        secret: The secret of this server.
        container: The container in the request's path; empty at the level of the account.
        query: The query parameters of the request.
        scheme: ``http`` or ``https``.
        client_host: The address of the client.
        accepts_account_keys: Whether a SAS may be signed with an account key, which is not known here.
    """
    _check_signature(secret, container, query, accepts_account_keys=accepts_account_keys)
    if "si" in query:
        raise _not_authentic("the container has no stored access policy, and si names one")
    for name in ("sv", "sp", "se"):
        if not query.get(name):
            raise _not_authentic(f"{name} is mandatory")
    _check_times(query)
    if query.get("spr", "https,http") == "https" and scheme != "https":
        raise ApiError(
            403, "AuthorizationProtocolMismatch", "This request is not authorized to use http."
        )
    if "sip" in query and not _is_in_range(client_host, query["sip"]):
        raise ApiError(
            403, "AuthorizationSourceIPMismatch",
            "This request is not authorized to perform this operation using this source IP.",
        )  # fmt: skip
    if "ses" in query:
        raise ApiError(
            501, "NotImplemented", "The local server does not implement the SAS field ses."
        )
    return Sas(query["sp"], _levels(query))


def _check_signature(
    secret: bytes, container: str, query: Mapping[str, str], *, accepts_account_keys: bool
) -> None:
    signature = query.get("sig", "")
    if "skoid" in query or not accepts_account_keys:
        fields = {k: v for k, v in query.items() if k in FIELDS and k != "sig"}
        expected = _signature(secret, container, fields)
        is_valid = hmac.compare_digest(signature.encode(), expected.encode())
    else:
        try:
            raw = base64.b64decode(signature.encode(), validate=True)
        except ValueError:  # also for text that is not ASCII
            raw = b""
        is_valid = len(raw) == hashlib.sha256().digest_size
    if not is_valid:
        raise _not_authentic("Signature did not match")


def _signature(secret: bytes, container: str, fields: Mapping[str, str]) -> str:
    text = "\n".join([container, *(f"{name}={fields[name]}" for name in sorted(fields))])
    return base64.b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).decode()


def _check_times(query: Mapping[str, str]) -> None:
    now = utc_time()
    start = _parse_time(query["st"]) if query.get("st") else now
    if not start <= now < _parse_time(query["se"]):
        raise _not_authentic("Signature not valid in the specified time frame")


def _parse_time(text: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise _not_authentic(
            "st and se must be times in UTC, such as 2026-11-29T12:00:00Z"
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _is_in_range(client_host: str, allowed: str) -> bool:
    first, _, last = allowed.partition("-")
    try:
        client = int(ipaddress.ip_address(client_host))
        return (
            int(ipaddress.ip_address(first)) <= client <= int(ipaddress.ip_address(last or first))
        )
    except ValueError:
        return False


def _levels(query: Mapping[str, str]) -> frozenset[Level]:
    """Return the levels at which a SAS is valid: an account SAS has ``ss`` and ``srt``, others ``sr``."""
    if "ss" in query or "srt" in query:
        by_letter: dict[str, Level] = {"s": "service", "c": "container", "o": "object"}
        types = query.get("srt", "")
        if not types or set(types) - set(by_letter) or not query.get("ss"):
            raise _not_authentic("ss and srt are mandatory for an account SAS")
        if "b" not in query["ss"]:
            raise ApiError(
                403,
                "AuthorizationServiceMismatch",
                "This request is not authorized to perform this operation using this service.",
            )
        levels = {by_letter[letter] for letter in types}
        return frozenset(levels | {"blobs"} if "container" in levels else levels)
    resource = query.get("sr", "")
    if resource in ("bs", "bv", "d"):
        raise ApiError(
            501,
            "NotImplemented",
            f"The local server does not implement the SAS field sr={resource}.",
        )
    if resource not in ("c", "b"):
        raise _not_authentic("sr is mandatory: c for a container, b for a blob")
    return frozenset({"object", "blobs"}) if resource == "c" else frozenset({"object"})


def _not_authentic(reason: str) -> ApiError:
    return ApiError(
        403, "AuthenticationFailed", f"Server failed to authenticate the request: {reason}."
    )
