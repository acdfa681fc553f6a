"""Errors that the local server answers with, and messages for jobs that fail."""

from __future__ import annotations

import errno

from maas_client.errors import MaasError
from maas_client.local.state.files import error_number, is_disk_full

_DISK_FULL = "The disk is full: free some space, then resume the job."
_FILE_ERRORS = {
    errno.ENOSPC: _DISK_FULL,
    errno.EFBIG: "A file grew beyond the system's limit (ulimit -f). Raise that limit.",
}
"""Messages for files that cannot be written, by error number."""
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate", "cannot allocate")
"""The words with which libraries report that memory ran out, in lower case."""


class ApiError(Exception):
    """A request that the server refuses, in any dialect.

    Args:
        status: The HTTP status.
        code: The service's error code, such as ``UserError`` or ``BlobNotFound``.
        message: The message of the response body.
        target: The field or parameter that is wrong.
        value: The value of ``target``, for APIs that repeat it.
        headers: Headers to add to the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: str | None = None,
        value: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.value = value
        self.headers = headers or {}


def user_error(message: str, *, status: int = 400, target: str | None = None) -> ApiError:
    """Return the error ``UserError``, which Azure ML answers for a wrong request."""
    return ApiError(status, "UserError", message, target=target)


def not_found(resource: str) -> ApiError:
    """Return ARM's 404; ``resource`` is the resource's kind and name."""
    return ApiError(404, "ResourceNotFound", f"{resource} was not found.")


def failure_message(error: BaseException) -> str | None:
    """Return the message for a failure that a user can do something about, else None."""
    if isinstance(error, MaasError):
        return str(error)
    if isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in _OUT_OF_MEMORY
    ):
        return (
            "Memory ran out. Use a smaller batch_size or max_seq_length, "
            "gradient_checkpointing=true, or method QLoRA."
        )
    return _DISK_FULL if is_disk_full(error) else _FILE_ERRORS.get(error_number(error))


def too_few_examples_message(examples: int, minimum: int) -> str | None:
    """Return the reason to refuse a job with this number of training examples, or None."""
    if examples >= minimum:
        return None
    count = "1 example" if examples == 1 else f"{examples} examples"
    return f"The training data has {count}. Fine-tuning needs at least {minimum}."


def describe_failure(error: BaseException) -> str:
    """Return a sentence for any failure of a job. It never contains the text of a data row."""
    if message := failure_message(error):
        return message
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or error}"
    return f"{type(error).__name__} in the training process. See the job's log."
