"""Build a value that a JSON schema accepts, with words and numbers of a given text where they fit."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from maas_client.chat.output_schema import (
    FORMATS,
    OutputSchemaError,
    Schema,
    matches,
    refuse_unexpected,
    resolve,
)

_MAX_DEPTH = 24
_MAX_STEPS = 20_000
"""Subschemas that are looked at for one value, and references that are followed to check one."""
_OPTIONAL_DEPTH = 3
"""Optional properties and items are left out of deeper levels, which ends recursive schemas."""
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w)")
_PATTERN_EXAMPLES = (
    "0",
    "a",
    "A",
    "00",
    "00000",
    "abc",
    "ABC",
    "0.0",
    "a-b",
    "A1",
    "+10000000000",
    "#000000",
)


def build_example(schema: Schema, text: str) -> Any:
    """Return a value that the schema accepts.

    Args:
        schema: A schema that ``output_schema.check_schema`` accepts.
        text: The text for strings; numbers and enumerated values in it are used where the schema allows.

    Raises:
        OutputSchemaError: No value was found.
    """
    with refuse_unexpected():
        try:
            value = _Builder(schema, text).build(schema, 0)
        except OverflowError:
            raise OutputSchemaError(
                "has a number that is too large", is_unsupported=False
            ) from None
        for error in _create_validator(schema).iter_errors(value):
            raise OutputSchemaError(
                f"uses {error.validator} in a way for which no value was found (at {error.json_path})",
                is_unsupported=True,
            )
    return value


def is_valid(schema: Schema, value: Any) -> bool:
    """Return whether the schema accepts a value. Raises ``OutputSchemaError`` if that takes too long."""
    with refuse_unexpected():
        return bool(_create_validator(schema).is_valid(value))


def _create_validator(schema: Schema) -> Any:
    """Return a validator that follows a limited number of references, with a limit for patterns."""
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    follow = Draft202012Validator.VALIDATORS["$ref"]
    budget = itertools.count(1)

    def reference(validator: Any, target: Any, instance: Any, part: Any) -> Any:
        if next(budget) > _MAX_STEPS:
            raise _too_large()
        return follow(validator, target, instance, part)

    def pattern(validator: Any, regex: str, instance: Any, part: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not matches(regex, instance):
            yield ValidationError("does not match the pattern")

    extended: Any = extend(  # type: ignore[no-untyped-call]  # jsonschema has no types
        Draft202012Validator, {"$ref": reference, "pattern": pattern}
    )
    return extended(schema)


def _too_large() -> OutputSchemaError:
    return OutputSchemaError(
        f"uses references or lists that need more than {_MAX_STEPS} steps", is_unsupported=True
    )


class _Builder:
    def __init__(self, root: Schema, text: str) -> None:
        self._root = root
        self._steps = 0
        self._text = text
        self._numbers = [float(number) for number in _NUMBER.findall(text)][:50]

    def build(self, schema: Any, depth: int) -> Any:
        """Return a value for a subschema."""
        self._count(depth)
        if not isinstance(schema, Mapping):
            return self._text
        schema = self._merge(resolve(schema, self._root), depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choose(schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                return self._build_option(schema, keyword, depth)
        return self._build_type(self._type(schema, depth), schema, depth)

    def _count(self, depth: int, steps: int = 1) -> None:
        """Raise ``OutputSchemaError`` below the deepest level, and after the last step."""
        if depth > _MAX_DEPTH:
            raise OutputSchemaError("is recursive without an end", is_unsupported=False)
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise _too_large()

    def _merge(self, schema: Schema, depth: int) -> Schema:
        """Return the schema with the members of ``allOf`` merged into it."""
        self._count(depth, len(schema.get("properties") or ()) + len(schema.get("allOf") or ()))
        merged = {name: value for name, value in schema.items() if name != "allOf"}
        for member in schema.get("allOf") or ():
            part = (
                self._merge(resolve(member, self._root), depth + 1)
                if isinstance(member, Mapping)
                else {}
            )
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", ()), *part.get("required", ())]
            merged = {**merged, **part}
            if properties:
                merged |= {"properties": properties, "required": required}
        return merged

    def _choose(self, values: list[Any]) -> Any:
        """Return the first value that the text contains, else the first value."""
        text = self._text.casefold()
        return next(
            (v for v in values if isinstance(v, str) and v and v.casefold() in text), values[0]
        )

    def _build_option(self, schema: Schema, keyword: str, depth: int) -> Any:
        rest = {name: value for name, value in schema.items() if name != keyword}
        options = list(schema[keyword])
        if depth > _OPTIONAL_DEPTH:  # the null of an optional field ends recursion
            options.sort(key=lambda option: option != {"type": "null"})
        problem = OutputSchemaError(f"has no value for {keyword}", is_unsupported=False)
        for option in options:
            if option is False:
                continue
            part = {} if option is True else option
            try:
                return self.build({**rest, **resolve(part, self._root)}, depth + 1)
            except OutputSchemaError as error:
                problem = error
        raise problem

    def _type(self, schema: Schema, depth: int) -> str:
        types = schema.get("type")
        if isinstance(types, list):
            return "null" if "null" in types and depth > _OPTIONAL_DEPTH else str(types[0])
        if types is not None:
            return str(types)
        if "properties" in schema or "required" in schema:
            return "object"
        return "array" if "items" in schema or "prefixItems" in schema else "string"

    def _build_type(self, kind: str, schema: Schema, depth: int) -> Any:
        match kind:
            case "object":
                return self._build_object(schema, depth)
            case "array":
                return self._build_array(schema, depth)
            case "string":
                return self._build_string(schema)
            case "integer" | "number":
                return self._build_number(schema, is_integer=kind == "integer")
            case "boolean":
                return False
        return None

    def _build_object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = dict.fromkeys(schema.get("required") or ())
        properties = schema.get("properties") or {}
        names = [n for n in properties if n in required or depth < _OPTIONAL_DEPTH]
        names += [name for name in required if name not in properties]
        extra = schema.get("additionalProperties", True)
        return {name: self.build(properties.get(name, extra), depth + 1) for name in names}

    def _build_array(self, schema: Schema, depth: int) -> list[Any]:
        first = list(schema.get("prefixItems") or ())
        low = int(schema.get("minItems", 0))
        count = min(max(low, len(first), depth < _OPTIONAL_DEPTH), schema.get("maxItems", math.inf))
        if schema.get("items") is False:
            count = min(count, len(first))
        rest = schema.get("items", True)
        return [
            self.build(first[n] if n < len(first) else rest, depth + 1) for n in range(int(count))
        ]

    def _build_string(self, schema: Schema) -> str:
        low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
        if "format" in schema:
            return FORMATS[schema["format"]]
        pattern = schema.get("pattern")
        for text in self._candidates(bool(pattern)):
            value = (text if high is None else text[: int(high)]).ljust(low, ".")
            if pattern is None or matches(pattern, value):
                return value
        raise OutputSchemaError(
            f"uses the pattern {str(pattern)[:60]!r}, for which no text was found",
            is_unsupported=True,
        )

    def _candidates(self, with_examples: bool) -> Iterator[str]:
        yield self._text
        if with_examples:
            yield from re.findall(r"\w+", self._text)[:50]
            yield from FORMATS.values()
            yield from _PATTERN_EXAMPLES
            yield ""

    def _build_number(self, schema: Schema, *, is_integer: bool) -> int | float:
        step = float(schema.get("multipleOf", 1 if is_integer else 0))
        low = max(
            float(schema.get("minimum", -math.inf)),
            float(schema.get("exclusiveMinimum", -math.inf)),
        )
        high = min(
            float(schema.get("maximum", math.inf)), float(schema.get("exclusiveMaximum", math.inf))
        )
        middle = (low + high) / 2 if math.isfinite(low) and math.isfinite(high) else 0.0
        candidates = [*self._numbers, 0.0, low, low + 1, high, high - 1, middle]
        if step and math.isfinite(low):
            candidates += [math.ceil(low / step) * step, (math.floor(low / step) + 1) * step]
        if step and math.isfinite(high):
            candidates += [math.floor(high / step) * step, (math.ceil(high / step) - 1) * step]
        for number in candidates:
            if not math.isfinite(number) or (is_integer and number != int(number)):
                continue
            value = int(number) if number == int(number) else number
            if _accepts(schema, value):
                return value
        raise OutputSchemaError("has no number between its limits", is_unsupported=False)


def _accepts(schema: Schema, value: float) -> bool:
    limits = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    return is_valid({name: schema[name] for name in limits if name in schema}, value)
