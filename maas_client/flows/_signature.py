"""Expand the shared ``**options`` of a method into documented parameters of its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def expand_options(options: type, defaults: Mapping[str, Any]) -> Callable[[F], F]:
    """Give a function with ``**options: Unpack[SomeTypedDict]`` a signature with every option in it.

    Type checkers see the options through the TypedDict; this is for ``help``, ``inspect`` and tools.

    Args:
        options: The TypedDict.
        defaults: The default of each option.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        parameters = [
            parameter
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        for name, annotation in options.__annotations__.items():
            text = getattr(annotation, "__forward_arg__", annotation)
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=text
                )
            )
        function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect
        return function

    return decorate
