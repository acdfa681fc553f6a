"""Parse the text that a model generated into content and tool calls."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from maas_client.chat.templates import ChatTemplate

_FUNCTOOLS = "functools"
"""Phi-4-mini also writes calls as ``functools[{"name": …}]``, the form of its cookbook's prompt."""


def parse_completion(text: str, template: ChatTemplate) -> tuple[str, list[dict[str, Any]]]:
    """Split a completion into content and tool calls.

    The completion ends at the template's first stop string. Text that only resembles a call (invalid JSON, no
    name) stays content. A call's id is a hash of the call and its position.

    Args:
        text: The generated text.
        template: The model's chat template.

    Returns:
        The content, and the tool calls in OpenAI's shape.
    """
    ends = [at for stop in template.stop_strings if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    if template.tools is None:
        return text, []
    before, after = re.escape(template.tools.call_before), re.escape(template.tools.call_after)
    functions: list[dict[str, Any]] = []

    def extract(match: re.Match[str]) -> str:
        parsed = list(_parse_calls(match["body"]))
        functions.extend(parsed)
        return "" if parsed else match[0]

    content = re.sub(f"{before}(?P<body>.*?)(?:{after}|$)", extract, text, flags=re.DOTALL)
    if not functions:
        content = re.sub(rf"{_FUNCTOOLS}\s*(?P<body>\[.*\])", extract, content, flags=re.DOTALL)
    return (content.strip() if functions else content), [
        {"id": _call_id(index, function), "type": "function", "function": function}
        for index, function in enumerate(functions)
    ]


def _parse_calls(body: str) -> Iterator[dict[str, str]]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    for call in value if isinstance(value, list) else [value]:
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            continue
        arguments = call.get("arguments", call.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        yield {"name": call["name"], "arguments": arguments}


def _call_id(index: int, function: Mapping[str, str]) -> str:
    identity = f"{index}\0{function['name']}\0{function['arguments']}"
    return "call_" + hashlib.sha256(identity.encode()).hexdigest()[:24]
