"""The exceptions of this library: everything that a public call may raise.

    MaasError                    .message, .hint: what happened, and what to do next
    |- DatasetError              .report: the problems, each with file, line and column
    |- ConfigError               a missing or invalid setting, argument or name
    |- UnsupportedError          this backend cannot do it; the message names one that can
    |- ModelRetiredError         .model, .retired, .replacement
    |- MissingExtraError         also an ImportError: pip install 'maas-client[...]'
    |- TransportError            no response, or an incomplete one: the outcome is unknown
    |- StatusError               .status, .code, .request_id, .operation, .target, .details, .retry_after
    |  |- BadRequestError        400, 405, 412, 413, 415, 416, 422, 501 and every other 4xx
    |  |- AuthError              401, or no token could be obtained
    |  |- PermissionDeniedError  403
    |  |- NotFoundError          404, 410
    |  |- ConflictError          409
    |  |- RateLimitError         429
    |  `- ServiceError           5xx, or a response with an unexpected body
    |- JobFailedError            .job: the job ended without success
    `- JobTimeoutError           also a TimeoutError; .job, .waited: the job itself continues

No error contains a key, a token, a SAS signature or the text of a dataset row. Every error can be pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from maas_client._messages import Call, Text

if TYPE_CHECKING:
    from maas_client.types.jobs import Job
    from maas_client.types.report import ValidationReport

__all__ = [
    "AuthError",
    "BadRequestError",
    "ConfigError",
    "ConflictError",
    "DatasetError",
    "JobFailedError",
    "JobTimeoutError",
    "MaasError",
    "MissingExtraError",
    "ModelRetiredError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServiceError",
    "StatusError",
    "TransportError",
    "UnsupportedError",
]


class MaasError(Exception):
    """The base class of all errors of this library.

    ``str(error)`` is one line: what happened, where, and what to do next.

    Args:
        message: What happened.
        hint: What to do next.

    Attributes:
        message: What happened, without the place and the hint.
        hint: What to do next, as one or two sentences; None if there is no advice.

    Example:
        >>> try:
        ...     client.jobs.get("no-such-job")
        ... except maas.NotFoundError as error:
        ...     print(error.message, error.hint)
        ... except maas.MaasError as error:
        ...     print(error)
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def where(self) -> str:
        """Return where the error happened.

        Returns:
            The operation, HTTP status, service code and request id of a ``StatusError``; an empty string
            for every other error.
        """
        return ""

    def to_text(self) -> Text:
        """Return ``str(error)`` as a text that knows which of its parts are arguments and calls.

        Returns:
            What happened, where, and what to do next.
        """
        where = self.where()
        text = Text(self.message)
        if where:
            text = text.rstrip(".") + f" ({where})"
        if not self.hint:
            return text
        end = "" if text.endswith(("?", "!")) else "."
        return text.rstrip(".") + f"{end} " + self.hint

    def __str__(self) -> str:
        return str(self.to_text())


class DatasetError(MaasError):
    """A dataset is not valid, so it was not sent.

    Args:
        message: The first problem and the number of others.
        report: The complete report.
        hint: How to fix the first problem.

    Attributes:
        report: The ``ValidationReport`` with every problem and its place; None if a single row was refused
            outside of a validation.
    """

    def __init__(
        self,
        message: str = "the dataset is not valid",
        *,
        report: ValidationReport | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class ConfigError(MaasError):
    """A setting, an argument or a name is missing or invalid."""


class UnsupportedError(MaasError):
    """The backend in use cannot do this. The message or the hint names a backend that can."""


class ModelRetiredError(MaasError):
    """The requested model is retired. Nothing was uploaded and nothing was charged.

    Args:
        message: Which model, since when, and what replaces it.
        model: The model's name in the catalog.
        retired: The day of its retirement.
        replacement: The model to use instead.
        hint: What to do next.

    Attributes:
        model: The model's name in the catalog.
        retired: The day of its retirement as ``YYYY-MM-DD``; None if it is not known.
        replacement: The name of the model that Azure recommends instead; None if there is none.
    """

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
    """An optional dependency is not installed. The message contains the pip command.

    Args:
        message: What is missing and how to install it.
        extra: The name of the extra.
        hint: What to do next.

    Attributes:
        extra: The name of the extra to install, such as ``local`` in ``maas-client[local]``.
    """

    def __init__(self, message: str, *, extra: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.extra = extra


class TransportError(MaasError):
    """No response arrived, or only part of one. Whether the service acted is unknown.

    Args:
        message: What happened.
        url: The address of the request.
        hint: What to do next.

    Attributes:
        url: The address of the request without its query; None if no request was built.
        was_sent: False if the request did not leave this machine, so the service cannot have acted.
        timed_out: True if the time ran out; the service may still act on the request.
    """

    was_sent: bool = True
    timed_out: bool = False

    def __init__(self, message: str, *, url: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.url = url


class StatusError(MaasError):
    """The service answered with an error status.

    Args:
        message: The service's message.
        status: The HTTP status.
        code: The service's error code.
        request_id: The service's id of the request.
        operation: The name of the operation.
        target: The part of the request that the service complains about.
        details: Further error objects from the service.
        retry_after: The wait that the service asked for, in seconds.
        hint: What to do next.

    Attributes:
        status: The HTTP status; None if there was no response (``AuthError`` without a token).
        code: The service's error code, such as ``ResourceNotFound``; None if it sent none.
        request_id: The id to quote in a support request; None if the service sent none.
        operation: The operation, such as ``jobs.create``.
        target: The field or resource that the service names; None if it names none.
        details: Further error objects from the service, as it sent them; often empty.
        retry_after: The wait that the service asked for, in seconds (at most 120); None if it named none.
    """

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
        super().__init__(message, hint=hint or self._default_hint(operation))
        self.retry_after = retry_after
        self.status = status
        self.code = code
        self.request_id = request_id
        self.operation = operation
        self.target = target
        self.details = tuple(details)

    def _default_hint(self, operation: str | None) -> str | None:
        return None

    def where(self) -> str:
        """Return the operation, status, code and request id, as far as they are known."""
        status_line = " ".join(
            str(part) for part in (self.operation, self.status, self.code) if part
        )
        request = f"request {self.request_id}" if self.request_id else ""
        return ", ".join(part for part in (status_line, request) if part)


class BadRequestError(StatusError):
    """The service refused the request itself: an argument, a size, a precondition."""


class AuthError(StatusError):
    """There is no credential, no token could be obtained, or the service refused the credential."""


class PermissionDeniedError(StatusError):
    """The service knows the identity, but the identity lacks a role for this operation."""


class NotFoundError(StatusError):
    """The resource does not exist, or no longer exists."""

    def _default_hint(self, operation: str | None) -> str | None:
        call = _LISTS.get((operation or "").partition(".")[0])
        return Text.format("List the existing names: {}", Call(call)) if call else None


_LISTS = {
    prefix: call
    for call, prefixes in {
        "deployments.list": ("endpoints", "deployments", "foundry_chat"),
        "jobs.list": ("jobs", "runs", "fine_tuning"),
        "sessions.list": ("sessions",),
        "datasets.list": ("data", "data_versions", "files"),
        "models.list": ("models", "model_versions"),
    }.items()
    for prefix in prefixes
}
"""The first part of an operation's name, and the call that lists such resources."""


class ConflictError(StatusError):
    """A resource of this name exists with other properties, or the resource is in use."""


class RateLimitError(StatusError):
    """Too many requests, or a quota is used up. ``retry_after`` is the wait in seconds, if one was named."""


class ServiceError(StatusError):
    """The service failed, or its response has an unexpected body."""


class JobFailedError(MaasError):
    """The job ended without success.

    Args:
        message: The job's name, status and error.
        job: The job.
        hint: What to do next.

    Attributes:
        job: The job in its final state. ``job.error`` is the service's reason.
    """

    def __init__(self, message: str, *, job: Job | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.job = job


class JobTimeoutError(MaasError, TimeoutError):
    """The timeout of a wait has passed. The job itself continues.

    Args:
        message: What was waited for.
        job: The job.
        waited: The time waited, in seconds.
        hint: What to do next.

    Attributes:
        job: The job as it was when last requested.
        waited: The time waited, in seconds.
    """

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


_CLASSES_BY_STATUS: dict[int, type[StatusError]] = {
    401: AuthError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    429: RateLimitError,
}


def error_class_for_status(status: int) -> type[StatusError]:
    """Return the error class for an HTTP status.

    Args:
        status: The HTTP status of a response that is not a success.

    Returns:
        The class listed at the top of this module; ``BadRequestError`` for other 4xx and 501,
        ``ServiceError`` for everything else.
    """
    if status in _CLASSES_BY_STATUS:
        return _CLASSES_BY_STATUS[status]
    return BadRequestError if 400 <= status < 500 or status == 501 else ServiceError
