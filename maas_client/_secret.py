"""Keep keys, tokens and signed URLs out of tracebacks, errors and logs.

Tracebacks with local variables (``rich``, ``pytest --showlocals``, error trackers) print the ``repr`` of what
each function had in hand. A ``Secret`` is a ``str`` in every other way, so it can be sent as it is. What is
made from it (an f-string, ``+``) is a plain ``str`` and must be wrapped again.

httpx logs full URLs at INFO, and a SAS is a URL, so its loggers get a filter.
"""

from __future__ import annotations

import logging
import re
from typing import SupportsIndex
from urllib.parse import urlsplit

from maas_client._argument_types import check_type
from maas_client.errors import MaasError

_SIGNATURE = re.compile(r"(?i)([?&](?:sig|signature|key|code|token|sas)=)[^&]+")


_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


def find_invalid_character(secret: str) -> str | None:
    """Return what makes a key or token unfit for an HTTP header, in words; None if nothing does."""
    if _HEADER_VALUE.fullmatch(secret):
        return None
    if not secret:
        return "it is empty"
    if "\n" in secret or "\r" in secret:
        return "it contains a line break"
    return "it contains a space" if " " in secret else "it contains a character that is not ASCII"


class Secret(str):
    """A key, a token or a header that contains one. Its ``repr`` is ``'**********'``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'**********'"

    def __getitem__(self, index: SupportsIndex | slice) -> Secret:
        """Return a part, which is as secret as the whole: rich shortens long values before it prints them."""
        return type(self)(super().__getitem__(index))


class SignedUrl(Secret):
    """An address that may contain a SAS. Its ``repr`` shows the address without the signature."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(_SIGNATURE.sub(r"\1**********", str(self)))

    def __getitem__(self, index: SupportsIndex | slice) -> Secret:
        return Secret(str(self)[index])


def hide(secret: str | None) -> Secret | None:
    """Wrap a key that may be missing. Raises ``ConfigError`` for one that is no text."""
    check_type("api_key", secret, str | None, "a text")
    return None if secret is None else Secret(secret)


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


def clear_tracebacks(error: BaseException, handled: BaseException | None) -> None:
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
