"""Microsoft's and OpenAI's published shapes, read as rules: what a body breaks, and where."""

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
    """One file of ``bicep-types``: ARM bodies of one api-version."""

    def __init__(self, name: str) -> None:
        self._types: list[dict[str, Any]] = json.loads(
            (SPECS / "bicep-types" / f"{name}.types.json").read_text()
        )

    def resource(self, kind: str) -> dict[str, Any]:
        """Return the body of a resource type (``Microsoft.../workspaces/jobs``)."""
        for one in self._types:
            if one["$type"] == "ResourceType" and one["name"].split("@")[0] == kind:
                return self._at(one["body"])
        raise KeyError(kind)

    def function(self, kind: str, name: str, part: str) -> dict[str, Any]:
        """Return the ``input`` or ``output`` of a resource's function (``listKeys``)."""
        for one in self._types:
            if (
                one["$type"] == "ResourceFunctionType"
                and one["resourceType"] == kind
                and one["name"].lower() == name.lower()
            ):
                return self._at(one[part])
        raise KeyError(f"{kind}/{name}")

    def _at(self, ref: dict[str, str]) -> dict[str, Any]:
        return self._types[int(ref["$ref"].removeprefix("#/"))]

    def problems(
        self, rule: dict[str, Any], value: Any, *, request: bool, at: str = ""
    ) -> Iterator[str]:
        """Yield what ``value`` breaks. A request holds nothing read-only, an answer nothing write-only.

        ``id``, ``name``, ``type`` and ``apiVersion`` of a resource are bicep's own and not in bodies
        that clients send.
        """
        kind = rule["$type"]
        if kind == "AnyType" or value is None:
            return
        if kind == "DiscriminatedObjectType":
            yield from self._discriminated(rule, value, request=request, at=at)
        elif kind == "ObjectType":
            yield from self._object(rule, value, request=request, at=at)
        elif kind == "ArrayType":
            for index, item in enumerate(value):
                yield from self.problems(
                    self._at(rule["itemType"]), item, request=request, at=f"{at}/{index}"
                )
        elif kind == "UnionType":
            known = [self._at(one) for one in rule["elements"]]
            if not any(not list(self.problems(k, value, request=request, at=at)) for k in known):
                yield f"{at}: {value!r} is none of {[k.get('value', k['$type']) for k in known]}"
        elif kind == "StringLiteralType":
            if not isinstance(value, str) or value.lower() != rule["value"].lower():
                yield f"{at}: {value!r} is not {rule['value']!r}"
        else:
            wanted = {"StringType": str, "IntegerType": int, "BooleanType": bool}[kind]
            if not isinstance(value, wanted):
                yield f"{at}: {value!r} is no {wanted.__name__}"

    def _discriminated(
        self, rule: dict[str, Any], value: Any, *, request: bool, at: str
    ) -> Iterator[str]:
        word = str(value.get(rule["discriminator"]))
        found = {k.lower(): v for k, v in rule["elements"].items()}.get(word.lower())
        if found is None:
            yield f"{at}/{rule['discriminator']}: {word} is none of {list(rule['elements'])}"
            return
        own = self._at(found)
        whole = {
            "$type": "ObjectType",
            "properties": {**rule["baseProperties"], **own["properties"]},
        }
        yield from self._object(whole, value, request=request, at=at)

    def _object(self, rule: dict[str, Any], value: Any, *, request: bool, at: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{at}: {type(value).__name__} is no object"
            return
        known = {k: v for k, v in rule["properties"].items() if k != "apiVersion"}
        for name, one in known.items():
            needed = one["flags"] & REQUIRED and not (request and name in ("id", "name", "type"))
            if needed and name not in value and not one["flags"] & WRITE_ONLY:
                yield f"{at}/{name}: is missing"
            if name in value and value[name] is not None:
                if request and one["flags"] & READ_ONLY:
                    yield f"{at}/{name}: is read-only"
                yield from self.problems(
                    self._at(one["type"]), value[name], request=request, at=f"{at}/{name}"
                )
        for name in set(value) - set(known):
            more = rule.get("additionalProperties")
            if more is None:
                yield f"{at}/{name}: nobody knows it"
            else:
                yield from self.problems(
                    self._at(more), value[name], request=request, at=f"{at}/{name}"
                )


@lru_cache(maxsize=1)
def openai_document() -> dict[str, Any]:
    """Return the subset of OpenAI's OpenAPI document."""
    path = SPECS / "openai" / "openai-files-finetuning-uploads-chat.subset.json"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def openai_problems(name: str, value: Any) -> list[str]:
    """Return what ``value`` breaks of OpenAI's schema ``name``."""
    import jsonschema

    document = openai_document()
    rule = {"$ref": f"#/components/schemas/{name}", "components": _nullable(document["components"])}
    checker = jsonschema.Draft202012Validator(rule)
    return [f"/{'/'.join(map(str, e.path))}: {e.message[:120]}" for e in checker.iter_errors(value)]


def _nullable(rule: Any) -> Any:
    """Turn OpenAPI 3.0's ``nullable`` into what JSON Schema says."""
    if isinstance(rule, list):
        return [_nullable(one) for one in rule]
    if not isinstance(rule, dict):
        return rule
    plain = {k: _nullable(v) for k, v in rule.items() if k not in ("nullable", "discriminator")}
    return {"anyOf": [plain, {"type": "null"}]} if rule.get("nullable") is True else plain
