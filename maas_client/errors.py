"""Everything a public call may raise.

    MaasError                    .hint: what to do next
    |- DatasetError              .report: which lines, where and why
    |- ConfigError               a setting, an argument or a name is missing or makes no sense
    |- UnsupportedError          this backend cannot do it; the message names one that can
    |- ModelRetiredError         .model .retired .replacement
    |- MissingExtraError         also an ImportError: pip install 'maas-client[...]'
    |- TransportError            no answer, or half of one: the outcome is unknown
    |- StatusError               .status .code .request_id .operation .target .details
    |  |- BadRequestError        400, 405, 412, 413, 415, 416, 422, 501 and other refusals of the request itself
    |  |- AuthError              401, and a credential that cannot be had
    |  |- PermissionDeniedError  403
    |  |- NotFoundError          404, 410
    |  |- ConflictError          409
    |  |- RateLimitError         429, .retry_after in seconds
    |  `- ServiceError           5xx, and an answer in a shape nobody documented
    |- JobFailedError            .job: terminal and not succeeded
    `- JobTimeoutError           also a TimeoutError, .job and .waited in seconds; the job itself goes on

An error never holds a key, a token, a SAS or the text of a data row. Each survives pickling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maas_client.types.jobs import Job
    from maas_client.types.report import ValidationReport


class MaasError(Exception):
    """The root. ``str()`` gives what happened, where, and what to do next, on one line."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def where(self) -> str:
        """Return where it happened (status, service code, request id), or an empty string."""
        return ""

    def __str__(self) -> str:
        where = self.where()
        text = f"{self.message.rstrip('.')} ({where})" if where else self.message
        end = "" if text.endswith(("?", "!")) else "."
        return f"{text.rstrip('.')}{end} {self.hint}" if self.hint else text


class DatasetError(MaasError):
    """A data set that must not be sent. ``report`` lists every problem with its place."""

    def __init__(
        self,
        message: str = "the data set is not valid",
        *,
        report: ValidationReport | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class ConfigError(MaasError):
    """A setting, an argument or a name that is missing or makes no sense."""


class UnsupportedError(MaasError):
    """The backend at hand cannot do this; the message names one that can."""


class ModelRetiredError(MaasError):
    """A retired model was asked for. Nothing was uploaded and nothing was paid."""

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        retired: str | None = None,
        replacement: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.model = model
        self.retired = retired
        self.replacement = replacement


class MissingExtraError(MaasError, ImportError):
    """An optional dependency is not installed; the message holds the pip command."""

    def __init__(self, message: str, *, extra: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.extra = extra


class TransportError(MaasError):
    """No answer, or half of one. Whether the service acted is unknown."""

    def __init__(self, message: str, *, url: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.url = url


class StatusError(MaasError):
    """The service answered with a refusal. ``retry_after``: the wait it asked for, in seconds."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        operation: str | None = None,
        target: str | None = None,
        details: Sequence[Any] = (),
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.status = status
        self.code = code
        self.request_id = request_id
        self.operation = operation
        self.target = target
        self.details = tuple(details)

    def where(self) -> str:
        said = " ".join(str(part) for part in (self.operation, self.status, self.code) if part)
        asked = f"request {self.request_id}" if self.request_id else ""
        return ", ".join(part for part in (said, asked) if part)


class BadRequestError(StatusError):
    """The request itself was refused: an argument, a size, a precondition."""


class AuthError(StatusError):
    """No credential, or one that was refused."""


class PermissionDeniedError(StatusError):
    """The credential is known but may not do this."""


class NotFoundError(StatusError):
    """There is no such thing, or it is no longer there."""


class ConflictError(StatusError):
    """The thing exists already in another form, or is in use."""


class RateLimitError(StatusError):
    """Too many requests. ``retry_after`` is the service's wish in seconds, if it named one."""


class ServiceError(StatusError):
    """The service failed, or answered in a shape nobody documented."""


class JobFailedError(MaasError):
    """The job ended without success. ``job.error`` holds the service's reason."""

    def __init__(self, message: str, *, job: Job | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job = job


class JobTimeoutError(MaasError, TimeoutError):
    """We stopped waiting after ``waited`` seconds; the job itself goes on."""

    def __init__(
        self,
        message: str,
        *,
        job: Job | None = None,
        waited: float = 0.0,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.job = job
        self.waited = waited


_BY_STATUS: dict[int, type[StatusError]] = {
    401: AuthError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    429: RateLimitError,
}


def error_class_for_status(status: int) -> type[StatusError]:
    """Return the class for an HTTP status: 4xx are the caller's, everything else the service's."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return BadRequestError if 400 <= status < 500 or status == 501 else ServiceError
