"""Keep secrets out of logs and errors: httpx logs full addresses at INFO, and a SAS is an address."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

_SECRET_PARAMETER = re.compile(r"(?i)\b(sig|signature|api-key|key|token|code)=[^&\s\"']+")


def without_query(url: str) -> str:
    """Return an address without its query, as it may appear in an error or a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


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
