"""How the rules say no: one exception, whatever dialect and plane the answer is written in."""

from __future__ import annotations


class ApiError(Exception):
    """A request that the service turns down.

    ``status`` is the HTTP status, ``code`` the service's own word (``UserError``,
    ``BlobNotFound``), ``target`` the field or parameter meant. Routes write it in their plane's form.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.headers = headers or {}


def user_error(message: str, *, status: int = 400, target: str | None = None) -> ApiError:
    """Return the Azure ML front end's word for a request that is wrong: ``UserError``."""
    return ApiError(status, "UserError", message, target=target)


def not_found(what: str) -> ApiError:
    """Return a 404 in ARM's words; ``what`` names the thing."""
    return ApiError(404, "ResourceNotFound", f"{what} was not found.")
