"""Hints about a failed sign-in: which credential failed, and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError  # noqa: TID253 - what is read here

from maas_client._settings import azure_identity_variables
from maas_client._transport import auth, run_sync
from maas_client._transport.auth import credential_attempts, sign_in_hint
from maas_client.errors import AuthError

ALL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")


def chain(*attempts: tuple[str, str]) -> ClientAuthenticationError:
    """The error of a chain, in the form that azure-identity 1.25 gives it."""
    lines = "".join(f"\n\t{name}: {text}" for name, text in attempts)
    return ClientAuthenticationError(
        "DefaultAzureCredential failed to retrieve a token from the included credentials."
        f"\nAttempted credentials:{lines}\nTo mitigate this issue, please refer to the guidelines."
    )


NONE = chain(
    ("EnvironmentCredential", "EnvironmentCredential authentication unavailable. Not configured."),
    ("AzureCliCredential", "Azure CLI not found on path"),
)


def environment(text: str) -> ClientAuthenticationError:
    return chain(("EnvironmentCredential", f"Authentication failed: {text}"))


@pytest.mark.parametrize(
    ("error", "variables", "expected", "absent"),
    [
        (NONE, (), "Sign in with `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and", "tried"),
        (NONE, ALL[:2], "or set AZURE_CLIENT_SECRET too", "AZURE_CLIENT_ID"),
        (NONE, ALL[1:], "AZURE_CLIENT_SECRET are set, but not AZURE_TENANT_ID", "or set"),
        (NONE, ("AZURE_TOKEN_CREDENTIALS",), "AZURE_TOKEN_CREDENTIALS limits which", "AZURE_CLIENT"),
        (environment("AADSTS7000215: Invalid client secret."), ALL, "correct AZURE_CLIENT_SECRET", "az login"),
        (environment("AADSTS700016: Application not found."), ALL, "correct AZURE_CLIENT_ID", "az login"),
        (environment("AADSTS90002: Tenant not found."), ALL, "correct AZURE_TENANT_ID", "az login"),
        (environment("AADSTS53003: Blocked."), ALL, "are set and tried: correct them, or unset", "az login"),
        (environment("HTTPSConnection(host='l', port=443): Failed to resolve 'l'"), ALL,
         "EnvironmentCredential was tried, and the sign-in host could not be reached", "correct"),
        (chain(("EnvironmentCredential", "unavailable"), ("ManagedIdentityCredential", "unavailable"),
               ("AzureCliCredential", "Authentication failed: AADSTS70043: The refresh token has expired")),
         (), "AzureCliCredential was tried. Sign in again: az login", "AZURE_CLIENT_SECRET"),
        (chain(("WorkloadIdentityCredential", "Authentication failed: AADSTS70021: No match")),
         ("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"), "Check the federated credential", "az login"),
    ],
)  # fmt: skip
def test_sign_in_hint_is_about_the_credential_that_failed(
    error: Exception, variables: tuple[str, ...], expected: str, absent: str
) -> None:
    hint = sign_in_hint(error, None, variables)
    assert expected in hint
    assert absent not in hint


def test_sign_in_hint_names_a_passed_credential() -> None:
    hint = sign_in_hint(ValueError("no"), "ClientSecretCredential", ALL)
    assert hint.startswith("ClientSecretCredential was passed and gave no token")
    assert "az login" not in hint


def test_credential_attempts() -> None:
    assert [name for name, _ in credential_attempts(NONE)] == [
        "EnvironmentCredential",
        "AzureCliCredential",
    ]
    assert list(credential_attempts(AuthError("no token: nothing"))) == []


def test_azure_identity_variables_are_names_only() -> None:
    environ = dict.fromkeys(ALL, "hush") | {"AZURE_CLIENT_ID": "", "AZURE_OTHER": "x"}
    assert azure_identity_variables(environ) == ["AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"]


def test_token_that_expires_every_hour_is_renewed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of polls, one a minute: no request carries a token that has expired."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(auth.time, "time", lambda: now[0])

    class HourlyCredential:
        def __init__(self) -> None:
            self.issued: list[float] = []

        def get_token(self, *scopes: str, **options: Any) -> Any:
            self.issued.append(now[0])
            return SimpleNamespace(token=f"until-{now[0] + 3600}", expires_on=now[0] + 3600)

    async def call(function: Any) -> Any:
        return function()

    credential = HourlyCredential()
    cache = auth.TokenCache(credential, "login.microsoftonline.com")
    for _ in range(24 * 60):
        token = run_sync(cache.get("https://ai.azure.com/.default", call))
        assert float(token.removeprefix("until-")) > now[0] + 60
        now[0] += 60
    assert 24 <= len(credential.issued) <= 28
