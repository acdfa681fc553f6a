"""How the rules say no: one exception, whatever dialect and plane the answer is written in."""

from __future__ import annotations

import errno
import re

from maas_client.errors import MaasError
from maas_client.local.state.reserve import is_disk_full


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


_FULL = "The disk is full: free some space, or give another --state-dir."
_NO_ROOM = {
    errno.ENOSPC: _FULL,
    errno.EFBIG: "A file grew over what this system allows (ulimit -f): raise that limit.",
}
"""What is said when files cannot be written, by the system's number."""
_SHORT = ("out of memory", "not enough memory", "can't allocate", "cannot allocate")
"""How libraries say that there is no memory left, in lower case."""


def failure_message(error: BaseException) -> str | None:
    """Return the sentence for a failure that a user can do something about, or None."""
    if isinstance(error, MaasError):
        return str(error)
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _SHORT):
        return (
            "Memory ran out. Give a smaller batch_size or max_seq_length, "
            "gradient_checkpointing=true, or method QLoRA."
        )
    return _FULL if is_disk_full(error) else _NO_ROOM.get(_system_error(error))


def describe_failure(error: BaseException) -> str:
    """Return a sentence for any failure."""
    if told := failure_message(error):
        return told
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or error}"
    return f"{type(error).__name__} in the training process; the log has the details."


def _system_error(error: BaseException) -> int:
    """Return the system's number behind an error, 0 where there is none."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors says it as Rust does
    return int(found[1]) if found else 0
