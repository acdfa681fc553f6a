"""Who we are: a key, or a credential's tokens, one scope per plane, renewed before they end."""

from __future__ import annotations

import base64
import binascii
import inspect
import re
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from maas_client._settings import azure_identity_variables
from maas_client._transport import sign_in
from maas_client.errors import AuthError

REFRESH_BEFORE_EXPIRY_S = 300
"""A token that ends within this many seconds is replaced; a poll that lasts hours never meets a 401."""


class TokenCredential(Protocol):
    """What azure-identity's credentials have in common; the method may also be a coroutine."""

    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        """Return an object with ``token`` and ``expires_on`` (seconds since 1970)."""
        ...


def _describe_failure(bad: Exception) -> str:
    """Return what azure-identity says first and, of the credentials it names, the one that did fail.

    Its text goes over many lines, most about what is not set up here; no secret is in it.
    """
    lines = [line.strip() for line in str(bad).splitlines() if line.strip()]
    failed = sign_in.failed_attempt(bad)
    told = (lines[0] if lines else type(bad).__name__, ": ".join(failed) if failed else "")
    return " ".join(one[:300] for one in told if one)


class TokenCache:
    """Tokens by scope. ``offload`` runs a blocking credential without stopping other coroutines."""

    def __init__(self, credential: TokenCredential | None, authority: str) -> None:
        self._given = credential
        self._passed = type(credential).__name__ if credential else None
        self._authority = authority
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Tokens({type(self._given).__name__ if self._given else 'DefaultAzureCredential'})"

    async def get(
        self,
        scope: str,
        offload: Callable[[Callable[[], Any]], Awaitable[Any]],
        claims: str | None = None,
    ) -> str:
        """Return a token for ``scope``. ``claims`` (from a 401) asks past every cache.

        Raises ``AuthError`` that says what to do about the credential that was tried.
        """
        held = self._held.get(scope)
        if held and claims is None and held[1] - time.time() > REFRESH_BEFORE_EXPIRY_S:
            return held[0]
        extra = {"claims": claims} if claims else {}
        try:
            credential = self._credential()
            if inspect.iscoroutinefunction(credential.get_token):
                got = await credential.get_token(scope, **extra)
            else:
                got = await offload(lambda: credential.get_token(scope, **extra))
        except Exception as bad:
            raise AuthError(
                f"no token for {scope.removesuffix('/.default')}: {_describe_failure(bad)}",
                hint=sign_in.sign_in_hint(bad, self._passed, azure_identity_variables()),
            ) from bad
        self._held[scope] = (got.token, float(got.expires_on))
        return str(got.token)

    def discard(self, scope: str) -> None:
        """Forget a token that was refused."""
        self._held.pop(scope, None)

    def _credential(self) -> TokenCredential:
        with self._lock:
            if self._given is None:
                from azure.identity import DefaultAzureCredential

                self._given = DefaultAzureCredential(authority=self._authority)
            return self._given


def parse_claims(challenge: str) -> str | None:
    """Return the claims a ``WWW-Authenticate`` header asks for (Continuous Access Evaluation)."""
    found = re.search(r'claims="([^"]+)"', challenge)
    if not found:
        return None
    try:
        text = found.group(1)
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_").decode()
    except (binascii.Error, ValueError):
        return None
