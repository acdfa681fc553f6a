"""The templates in the texts of a grader: fields of the row, ``{{item.NAME}}``, and parts of the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from maas_client.errors import ConfigError
from maas_client.graders._models import ScoreModel, SingleGrader

_PLACEHOLDER = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)
_PATH = re.compile(r"(item|sample)((?:\.[^.\[\]\s{}]+|\[\d{1,9}\])*)")
_STEP = re.compile(r"\.([^.\[\]\s{}]+)|\[(\d{1,9})\]")


def templates_of(grader: SingleGrader) -> list[str]:
    """Return the texts of a grader that may have templates."""
    if isinstance(grader, ScoreModel):
        return [message.content for message in grader.input]
    return [grader.input, grader.reference]


def check_templates(text: str, place: str) -> None:
    """Raise ``ConfigError`` for a template that names nothing. ``place`` begins the message."""
    for match in _PLACEHOLDER.finditer(text):
        if not _PATH.fullmatch(match[1].strip()):
            raise ConfigError(
                f"{place}{match[0]} is no template",
                hint="Write {{item.NAME}} or {{sample.output_text}}.",
            )


def template_values(
    sample: str, item: Mapping[str, Any], tool_calls: Sequence[Any]
) -> dict[str, Any]:
    """Return what the templates can name: the row, and the parts of the answer."""
    try:
        output_json = json.loads(sample)
    except (ValueError, RecursionError):
        output_json = None
    output = {"output_text": sample, "output_json": output_json, "output_tools": list(tool_calls)}
    return {"item": item, "sample": output}


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Return a text with its templates replaced. What an answer does not have is empty."""

    def replace(match: re.Match[str]) -> str:
        path = _PATH.fullmatch(match[1].strip())
        assert path is not None  # check_templates
        value: Any = values[path[1]]
        for key, index in _STEP.findall(path[2]):
            try:
                value = value[key] if key else value[int(index)]
            except (KeyError, IndexError, TypeError):
                if path[1] == "item":
                    raise ConfigError(
                        f"the row has no {path[0]}",
                        hint="Add the field to the row, or change the grader.",
                    ) from None
                return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return _PLACEHOLDER.sub(replace, template)
