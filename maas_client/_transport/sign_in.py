"""Why nobody could be signed in, read from what azure-identity says, and what to do about the credential that
was tried. Nothing here reads or holds a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_ENVIRONMENT = "EnvironmentCredential"
_SECRET = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
_ONLY = "AZURE_TOKEN_CREDENTIALS"

_AT_FAULT = {
    "AADSTS90002": "there is no such tenant: correct AZURE_TENANT_ID",
    "AADSTS700016": "the tenant knows no such application: correct AZURE_CLIENT_ID, or AZURE_TENANT_ID",
    "AADSTS7000215": "the secret is not the application's: correct AZURE_CLIENT_SECRET (its value, not its id)",
    "AADSTS7000222": "the application's secret has expired: make a new one and set AZURE_CLIENT_SECRET",
}
"""Entra ID's codes that name one of the variables: learn.microsoft.com, "Microsoft Entra authentication and
authorization error codes"."""

_OTHERS = {
    "WorkloadIdentityCredential": "Check the federated credential of the identity that AZURE_CLIENT_ID names.",
    "ManagedIdentityCredential": "Check that this machine has a managed identity; AZURE_CLIENT_ID chooses one.",
    "AzureCliCredential": "Sign in again: az login",
    "AzurePowerShellCredential": "Sign in again: Connect-AzAccount",
    "AzureDeveloperCliCredential": "Sign in again: azd auth login",
}
_UNREACHED = re.compile(
    r"HTTPS?Connection|Failed to resolve|Max retries|timed out|Connection (?:refused|aborted|reset)"
    r"|Cannot connect|getaddrinfo|CERTIFICATE_VERIFY_FAILED",
    re.I,
)


def credential_attempts(bad: BaseException) -> Iterator[tuple[str, str]]:
    """Yield which credentials were tried, and what each said, in one line."""
    for line in str(bad).splitlines():
        name, colon, said = line.strip().partition(": ")
        if colon and re.fullmatch(r"\w+Credential", name):
            yield name, " ".join(said.split())


def failed_attempt(bad: BaseException) -> tuple[str, str] | None:
    """Return the credential that was set up and failed, and what it said. The others of a chain only say
    that they are not set up here."""
    found = ((n, s) for n, s in credential_attempts(bad) if "authentication failed" in s.lower())
    return next(found, None)


def sign_in_hint(
    error: BaseException, credential_type: str | None, variables: Sequence[str]
) -> str:
    """Return what to do. ``given`` names the type of a credential the program passed; ``variables`` are the
    names of azure-identity's variables that are set."""
    name, said = failed_attempt(error) or (credential_type, str(error))
    if name and _UNREACHED.search(said):
        where = "the sign-in host could not be reached: check the network and HTTPS_PROXY"
        return f"{name} was tried, and {where}."
    if name == _ENVIRONMENT:
        return _environment(said, variables)
    if name in _OTHERS:
        return f"{name} was tried. {_OTHERS[name]}"
    if credential_type:
        return f"{credential_type} was passed and gave no token: correct it, or pass another as credential=."
    some = [one for one in _SECRET if one in variables]
    missing = [one for one in _SECRET if one not in variables]
    if "AZURE_CLIENT_SECRET" in some and missing:
        instead = "set all three, or none to sign in with `az login`"
        return f"{_and(some)} {_is(some)} set, but not {_and(missing)}: {instead}."
    if _ONLY in variables:
        instead = "set up one of those, or unset it and sign in with `az login`"
        return f"{_ONLY} says which credentials may be tried: {instead}."
    more = f"{_and(missing)} too" if some and missing else _and(_SECRET)
    return f"Sign in with `az login`, or set {more}."


def _environment(said: str, variables: Sequence[str]) -> str:
    """Return what to do about a sign-in by variables."""
    used = [one for one in variables if one != _ONLY]
    code = re.search(r"AADSTS\d+", said)
    fault = _AT_FAULT.get(code[0]) if code else None
    told = f"{_and(used) or 'AZURE_* variables'} {_is(used)} set"
    return f"{told} and tried: {fault or 'correct them'}, or unset them to sign in another way."


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _and(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
