"""Check the types of a call's arguments against the annotations of its signature.

An argument of a wrong type must end in one sentence before anything is sent. Without the check, a wrong value
that counts as false (``[]``, ``0``) would mean "not given", and ``force_new="no"`` would mean True.

Annotations are read as texts. pydantic's ``TypeAdapter`` and ``validate_call`` would have to import what the
annotations name. In strict mode (2.14) they also refuse a mapping that is no dict, and sets and views as lists
of texts; they copy mappings, so that an argument is no longer the caller's object; they accept nan and integers
of any size; and their messages contain the value, which may be a key.
"""

from __future__ import annotations

import inspect
import math
import re
from ast import literal_eval
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, wraps
from os import PathLike
from typing import Any, ParamSpec, TypeVar

from maas_client._hyperparameter_table import HYPERPARAMETERS
from maas_client._messages import Argument, Text
from maas_client.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")
_Check = Callable[[Any], bool]
_INT_LIMIT = 2**63


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INT_LIMIT


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_function(value: object) -> bool:
    """Return whether a value can be called back: nothing would await the result of an async function."""
    return callable(value) and not any(
        is_async(function)
        for function in (value, type(value).__call__)
        for is_async in (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    )


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _list_of(check: _Check) -> _Check:
    """Return the check of an iterable; the members of one that can be read only once are not looked at."""
    return lambda value: (
        isinstance(value, Iterable)
        and not isinstance(value, str | bytes | bytearray | Mapping)
        and (not isinstance(value, Collection) or all(map(check, value)))
    )


_TEXTS = (_list_of(_is_text), "a list of texts")
_MAPPING = (_is_mapping, "a dictionary")
_FUNCTION = (_is_function, "a function")
_CHECKS: dict[str, tuple[_Check, str]] = {
    "None": (lambda value: value is None, ""),
    "bool": (lambda value: isinstance(value, bool), "True or False"),
    "str": (_is_text, "a text"),
    "Method": (_is_text, "a text"),
    "Target": (_is_text, "a text"),
    "LossName": (_is_text, "a text"),
    "Engine": (_is_text, "a text"),
    "Precision": (_is_text, "a text"),
    "int": (_is_int, "a whole number"),
    "float": (_is_number, "a number"),
    "PathLike[str]": (lambda value: isinstance(value, PathLike), "a path"),
    "os.PathLike[str]": (lambda value: isinstance(value, PathLike), "a path"),
    "Path": (lambda value: isinstance(value, PathLike), "a path"),
    "StrPath": (lambda value: isinstance(value, str | PathLike), "a path"),
    "Sequence[str]": _TEXTS,
    "Iterable[str]": _TEXTS,
    "tuple[str, ...]": _TEXTS,
    "Sequence[Any]": (_list_of(lambda _: True), "a list"),
    "Sequence[int]": (_list_of(_is_int), "a list of whole numbers"),
    "Sequence[Mapping[str, Any]]": (_list_of(_is_mapping), "a list of dictionaries"),
    "Mapping[str, Any]": _MAPPING,
    "Mapping[str, object]": _MAPPING,
    "Mapping[str, str]": (
        lambda value: _is_mapping(value) and all(map(_is_text, value.values())),
        "a dictionary of texts",
    ),
    "dict[str, Any]": _MAPPING,
    "ProgressCallback": _FUNCTION,
}
"""Annotation to its check, and what the message calls its values."""
_OTHERS = frozenset(
    {
        "Dataset | str",
        "Deployment | str",
        "Job | str",
        "Model | Job | str",
        "Model | str",
        "Session | str",
        "SessionCheckpoint | str",
    }
)
"""Annotations of identifiers, which ``flows.identifiers`` checks: its messages say where to find one."""


def check_arguments(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    name: str | None = None,
) -> None:
    """Raise ``ConfigError`` for the first argument that is not of its annotated type.

    Parameters whose annotations are not in the tables above are left to ``function``.

    Args:
        function: The function whose signature counts.
        args: The positional arguments.
        kwargs: The keyword arguments.
        name: What the caller called; default: the function's name.

    Raises:
        TypeError: The call does not fit the signature. The message suggests a parameter.
        ConfigError: An argument is of a wrong type.
    """
    signature, checks = _read_signature(function)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        unknown = [key for key in kwargs if key not in signature.parameters]
        text = _describe_unknown(unknown[0], signature) if unknown else str(error)
        raise TypeError(f"{name or function.__qualname__}() {text}") from None
    for key, (options, kinds) in checks.items():
        if key in given and not any(check(given[key]) for check in options):
            raise ConfigError(
                Text.format(
                    "{} must be {}, not {}", Argument(key), kinds, describe_value(given[key])
                )
            )


def _describe_unknown(keyword: str, signature: inspect.Signature) -> str:
    """Return what is wrong with a keyword that is no parameter, and which one may be meant."""
    text = f"got an unexpected keyword argument {keyword!r}"
    if "hyperparameters" in signature.parameters and keyword in HYPERPARAMETERS:
        return f'{text}. It is a hyperparameter: pass hyperparameters={{"{keyword}": ...}}'
    similar = get_close_matches(keyword, signature.parameters, n=1)
    return text + (f". Did you mean {similar[0]!r}?" if similar else "")


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function with ``check_arguments`` before each call."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        check_arguments(function, args, kwargs)
        return function(*args, **kwargs)

    return call


def check_type(name: str, value: object, kind: Any, kind_name: str) -> None:
    """Raise ``ConfigError`` if an argument is not of a type, which the message calls ``kind_name``."""
    if not isinstance(value, kind):
        raise ConfigError(
            Text.format("{} must be {}, not {}", Argument(name), kind_name, describe_value(value))
        )


@cache
def _read_signature(
    function: Callable[..., Any],
) -> tuple[inspect.Signature, dict[str, tuple[list[_Check], str]]]:
    """Return the signature of a function, and the checks and the wording for each parameter."""
    signature = inspect.signature(function)
    checks = {
        name: _read_annotation(parameter.annotation)
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, str)
        and parameter.annotation not in _OTHERS
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return signature, {name: found for name, found in checks.items() if found}


def _read_annotation(annotation: str) -> tuple[list[_Check], str] | None:
    """Return the checks of an annotation's alternatives; None if one of them has no check."""
    checks: list[_Check] = []
    kinds: list[str] = []
    for part in re.findall(r"(?:[^|\[]|\[(?:[^\[\]]|\[[^\]]*\])*\])+", annotation):
        check, kind = _find_check(part.strip())
        if check is None:
            return None
        checks.append(check)
        if kind and kind not in kinds:
            kinds.append(kind)
    return checks, ", ".join(kinds[:-1]) + (" or " if kinds[:-1] else "") + kinds[-1]


def _find_check(part: str) -> tuple[_Check | None, str]:
    if part in _CHECKS:
        return _CHECKS[part]
    if part.startswith("Callable["):
        return _FUNCTION
    if part.startswith("Literal["):
        values = literal_eval(f"({part[8:-1]},)")
        return values.__contains__, " or ".join(map(repr, values))
    if re.fullmatch(r"(Deployment|FaultPlan|Hyperparameters|Model|Places)", part):
        return (lambda value: any(base.__name__ == part for base in type(value).__mro__), part)
    return None, ""


def describe_value(value: object) -> str:
    """Return what a value is, without the value: it may be a key or text of the user."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, int) and abs(value) >= _INT_LIMIT:
        return "a number of more than 63 bits"
    if value is None:
        return "None"
    if callable(value) and not _is_function(value):
        return "an async function, which nothing would await"
    kind = f"of type {type(value).__name__}"
    if isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray):
        members = value.values() if isinstance(value, Mapping) else value
        if kinds := sorted({type(member).__name__ for member in members}):
            kind += f" with members of type {', '.join(kinds)}"
    return kind
