"""Bodies of requests and responses: their base class, and how values of a response become models.

Bodies have Azure's camelCase names and keep unknown fields. Whatever is wrong with a value becomes a
``ServiceError``: a single response, an item of a list and the conversion of either to a public type go through
here, so that no exception of pydantic or of Python leaves a public call because a service sent something else.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from maas_client.errors import ServiceError
from maas_client.wire.operation import Operation


class WireModel(BaseModel):
    """A body. Unknown fields are kept and sent back; error messages never contain values."""

    model_config = ConfigDict(
        extra="allow",
        populate_by_name=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, body: Any) -> Any:
        """Read null as "not set" where a field has a default: Azure sends ``"tags": null`` for no tags."""
        if not isinstance(body, dict) or None not in body.values():
            return body
        defaults = _names_with_default(cls)
        return {k: value for k, value in body.items() if value is not None or k not in defaults}

    def dump(self) -> dict[str, Any]:
        """Return the body, ready for JSON, without the fields that were not set."""
        return self.model_dump(by_alias=True, exclude_unset=True, mode="json")


@cache
def _names_with_default(model: type[BaseModel]) -> frozenset[str]:
    """Return the names, in Python and in the body, of the fields whose default is not None."""
    return frozenset(
        each
        for name, field in model.model_fields.items()
        if field.default_factory is not None
        or (not field.is_required() and field.default is not None)
        for each in (name, field.alias or name)
    )


P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

_log = logging.getLogger("maas_client")
_WRONG_VALUES = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)


def describe_problem(error: Exception) -> str:
    """Return what is wrong with a value, without the value: it may be a key or a row."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return (
            f"{'.'.join(str(part) for part in first['loc'])[:100] or 'body'}: {first['msg'][:200]}"
        )
    return "a value has another type than expected"


def unexpected_value(operation: str, error: Exception) -> ServiceError:
    """Return the error for a value of a response that is not what the operation returns."""
    return ServiceError(
        f"{operation}: the response has an unexpected value ({describe_problem(error)})",
        operation=operation,
        hint="The service may have changed its API. Update maas-client, or report this message.",
    )


def parse_item(op: Operation[Any], model: type[M], item: object) -> M:
    """Return an item of a list as a model.

    Raises:
        ServiceError: The item is not what the operation returns.
    """
    try:
        return model.model_validate(item)
    except _WRONG_VALUES as error:
        raise unexpected_value(op.name, error) from None


def parse_or_skip(
    op: Operation[Any], model: type[M], item: object, *, is_wanted: bool = False
) -> M | None:
    """Return an item as a model, or None with a warning if it is not one.

    For a list that is read to find something: an odd item of somebody else must not prevent that.

    Args:
        op: The operation that lists the items.
        model: The model.
        item: The item.
        is_wanted: Whether this is the item that is looked for, as far as can be seen.

    Raises:
        ServiceError: The item is odd and wanted: to skip it could mean to create it a second time.
    """
    try:
        return parse_item(op, model, item)
    except ServiceError as error:
        if is_wanted:
            raise
        _log.warning("%s; this item of the list is skipped", error.message)
        return None


def skip_non_objects(op: Operation[Any], items: list[Any]) -> list[dict[str, Any]]:
    """Return the items of a list that are objects; warn about others."""
    objects = [item for item in items if isinstance(item, dict)]
    if len(objects) < len(items):
        _log.warning(
            "%s: %d items of the list are not objects; they are skipped",
            op.name,
            len(items) - len(objects),
        )
    return objects


def creation_time(item: dict[str, Any]) -> str:
    """Return when an item of an ARM list was created, as text to sort by; empty if it does not say."""
    system_data = item.get("systemData")
    return str(system_data.get("createdAt") or "") if isinstance(system_data, dict) else ""


def translate_parse_errors(operation: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function that converts a response raise ``ServiceError`` for values of another type.

    Args:
        operation: The operation that the error names.
    """

    def decorate(convert: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(convert)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return convert(*args, **kwargs)
            except _WRONG_VALUES as error:
                raise unexpected_value(operation, error) from None

        return checked

    return decorate


def to_datetime(seconds: float | None) -> datetime | None:
    """Convert seconds since 1970 to a time in UTC; also milliseconds, which some gateways send.

    Returns:
        None for no time, and for one that no calendar has.
    """
    if seconds is None:
        return None
    try:
        # As seconds, 10^11 is the year 5138; as milliseconds it is 1973.
        return datetime.fromtimestamp(seconds / 1000 if abs(seconds) >= 1e11 else seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def parse_time(text: str | None) -> datetime | None:
    """Parse an ISO time (UTC if it has no zone); None for no time and for an invalid one."""
    try:
        time = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


DELETE_AT_TAG = "maas-client-delete-at"
"""The tag with the time at which a deployment is to be deleted. Azure bills a deployment by the hour until it
is deleted, and has no expiry. Both kinds of deployment have tags (Bicep types serverlessEndpoints and
accounts/deployments), so the time is visible on every machine, whoever created the deployment."""


def format_delete_at(moment: datetime) -> str:
    """Return the value of the tag: UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_delete_at(tags: Any) -> datetime | None:
    """Return the time, or None if there is no tag or its value is not a time with a zone."""
    value = tags.get(DELETE_AT_TAG) if isinstance(tags, Mapping) else None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


MAX_RETRY_AFTER_S = 120.0
"""A longer Retry-After is reduced to this. The operation's deadline may end the wait earlier."""


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the wait that a response asks for, in seconds; None if it names none or it is invalid.

    Azure uses four forms: ``retry-after-ms`` and ``x-ms-retry-after-ms`` in milliseconds, which take
    precedence, and ``retry-after`` in seconds or as a date.

    Args:
        headers: The response headers, names in lower case.
        now: The current time, for a date; default: now.

    Returns:
        A number from 0 to ``MAX_RETRY_AFTER_S``, or None.
    """
    for name, factor in (
        ("retry-after-ms", 0.001),
        ("x-ms-retry-after-ms", 0.001),
        ("retry-after", 1.0),
    ):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text) * factor
        except ValueError:
            seconds = _seconds_until(text, now) if name == "retry-after" else math.nan
        if math.isfinite(seconds):
            return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
        if seconds == math.inf:
            return MAX_RETRY_AFTER_S
    return None


def _seconds_until(http_date: str, now: datetime | None) -> float:
    try:
        moment = parsedate_to_datetime(http_date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return math.nan
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - (now or datetime.now(UTC))).total_seconds()
