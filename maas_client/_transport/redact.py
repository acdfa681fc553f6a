"""No secret in a log line: httpx logs whole addresses at INFO, and a SAS is an address."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

_SECRET = re.compile(r"(?i)\b(sig|signature|api-key|key|token|code)=[^&\s\"']+")


def without_query(url: str) -> str:
    """Return an address without its query: what may stand in an error or a log."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


class _Redact(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = _SECRET.sub(r"\1=REDACTED", text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


def install_log_filter() -> None:
    """Put the filter on httpx's and httpcore's loggers, once."""
    for name in ("httpx", "httpcore.http11", "httpcore.connection", "httpcore.proxy"):
        logger = logging.getLogger(name)
        if not any(isinstance(f, _Redact) for f in logger.filters):
            logger.addFilter(_Redact())
