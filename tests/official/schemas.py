"""Validation against schemas that Microsoft and OpenAI publish: what a body violates, and where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from tests.shared_data import SHARED

SPECS = SHARED / "specs"
"""Not part of the project; the tests that need it are skipped where it is absent."""

REQUIRED, READ_ONLY, WRITE_ONLY = 1, 2, 4
"""Flags of a property in Microsoft's bicep types."""


class Bicep:
    """One file of ``bicep-types``: the ARM bodies of one api-version."""

    def __init__(self, name: str) -> None:
        self._types: list[dict[str, Any]] = json.loads(
            (SPECS / "bicep-types" / f"{name}.types.json").read_text()
        )

    def resource(self, kind: str) -> dict[str, Any]:
        """Return the body type of a resource (``Microsoft.../workspaces/jobs``)."""
        for item in self._types:
            if item["$type"] == "ResourceType" and item["name"].split("@")[0] == kind:
                return self._at(item["body"])
        raise KeyError(kind)

    def function(self, kind: str, name: str, part: str) -> dict[str, Any]:
        """Return the ``input`` or ``output`` of a resource function (``listKeys``)."""
        for item in self._types:
            if (
                item["$type"] == "ResourceFunctionType"
                and item["resourceType"] == kind
                and item["name"].lower() == name.lower()
            ):
                return self._at(item[part])
        raise KeyError(f"{kind}/{name}")

    def _at(self, ref: dict[str, str]) -> dict[str, Any]:
        return self._types[int(ref["$ref"].removeprefix("#/"))]

    def problems(
        self, rule: dict[str, Any], value: Any, *, request: bool, path: str = ""
    ) -> Iterator[str]:
        """Yield what ``value`` breaks. A request holds nothing read-only, an answer nothing write-only.

        ``id``, ``name``, ``type`` and ``apiVersion`` of a resource are bicep's own and not in bodies
        that clients send.
        """
        kind = rule["$type"]
        if kind == "AnyType" or value is None:
            return
        if kind == "DiscriminatedObjectType":
            yield from self._discriminated(rule, value, request=request, path=path)
        elif kind == "ObjectType":
            yield from self._object(rule, value, request=request, path=path)
        elif kind == "ArrayType":
            for index, item in enumerate(value):
                yield from self.problems(
                    self._at(rule["itemType"]), item, request=request, path=f"{path}/{index}"
                )
        elif kind == "UnionType":
            properties = [self._at(element) for element in rule["elements"]]
            if not any(
                not list(self.problems(k, value, request=request, path=path)) for k in properties
            ):
                yield f"{path}: {value!r} is none of {[k.get('value', k['$type']) for k in properties]}"
        elif kind == "StringLiteralType":
            if not isinstance(value, str) or value.lower() != rule["value"].lower():
                yield f"{path}: {value!r} is not {rule['value']!r}"
        else:
            required = {"StringType": str, "IntegerType": int, "BooleanType": bool}[kind]
            if not isinstance(value, required):
                yield f"{path}: {value!r} is no {required.__name__}"

    def _discriminated(
        self, rule: dict[str, Any], value: Any, *, request: bool, path: str
    ) -> Iterator[str]:
        word = str(value.get(rule["discriminator"]))
        variant = {k.lower(): v for k, v in rule["elements"].items()}.get(word.lower())
        if variant is None:
            yield f"{path}/{rule['discriminator']}: {word} is none of {list(rule['elements'])}"
            return
        own_properties = self._at(variant)
        whole = {
            "$type": "ObjectType",
            "properties": {**rule["baseProperties"], **own_properties["properties"]},
        }
        yield from self._object(whole, value, request=request, path=path)

    def _object(
        self, rule: dict[str, Any], value: Any, *, request: bool, path: str
    ) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path}: {type(value).__name__} is no object"
            return
        properties = {k: v for k, v in rule["properties"].items() if k != "apiVersion"}
        for name, item in properties.items():
            needed = item["flags"] & REQUIRED and not (request and name in ("id", "name", "type"))
            if needed and name not in value and not item["flags"] & WRITE_ONLY:
                yield f"{path}/{name}: is missing"
            if name in value and value[name] is not None:
                if request and item["flags"] & READ_ONLY:
                    yield f"{path}/{name}: is read-only"
                yield from self.problems(
                    self._at(item["type"]), value[name], request=request, path=f"{path}/{name}"
                )
        for name in set(value) - set(properties):
            additional = rule.get("additionalProperties")
            if additional is None:
                yield f"{path}/{name}: nobody knows it"
            else:
                yield from self.problems(
                    self._at(additional), value[name], request=request, path=f"{path}/{name}"
                )


@lru_cache(maxsize=1)
def openai_document() -> dict[str, Any]:
    """Return the extract of OpenAI's OpenAPI document."""
    path = SPECS / "openai" / "openai-files-finetuning-uploads-chat.subset.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def openai_problems(name: str, value: Any) -> list[str]:
    """Return what ``value`` violates in OpenAI's schema ``name``."""
    import jsonschema

    document = openai_document()
    rule = {"$ref": f"#/components/schemas/{name}", "components": _nullable(document["components"])}
    checker = jsonschema.Draft202012Validator(rule)
    return [f"/{'/'.join(map(str, e.path))}: {e.message[:120]}" for e in checker.iter_errors(value)]


def _nullable(rule: Any) -> Any:
    """Convert OpenAPI 3.0's ``nullable`` to JSON Schema."""
    if isinstance(rule, list):
        return [_nullable(item) for item in rule]
    if not isinstance(rule, dict):
        return rule
    plain = {k: _nullable(v) for k, v in rule.items() if k not in ("nullable", "discriminator")}
    return {"anyOf": [plain, {"type": "null"}]} if rule.get("nullable") is True else plain
