"""Keep secrets out of logs and errors: httpx logs full addresses at INFO, and a SAS is an address."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

from maas_client.errors import MaasError

_SECRET_PARAMETER = re.compile(r"(?i)\b(sig|signature|api-key|key|token|code)=[^&\s\"']+")


def without_query(url: str) -> str:
    """Return an address without its query, as it may appear in an error or a log."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    except ValueError:
        return "an address that is not valid"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def remove_frames(error: BaseException, handled: BaseException | None) -> None:
    """Remove the tracebacks of an exception of another library and of its causes.

    Its frames have the credential in their local variables, which ``rich`` and ``pytest`` print.

    Args:
        error: The exception.
        handled: The exception that the caller was handling already; its traceback is left alone.
    """
    cause: BaseException | None = error
    while cause is not None and cause is not handled:
        if not isinstance(cause, MaasError):
            cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__


class _RedactFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        redacted = _SECRET_PARAMETER.sub(r"\1=REDACTED", text)
        if redacted != text:
            record.msg, record.args = redacted, ()
        return True


def install_log_filter() -> None:
    """Add the filter to the loggers of httpx and httpcore, once."""
    for name in ("httpx", "httpcore.http11", "httpcore.connection", "httpcore.proxy"):
        logger = logging.getLogger(name)
        if not any(isinstance(existing, _RedactFilter) for existing in logger.filters):
            logger.addFilter(_RedactFilter())
