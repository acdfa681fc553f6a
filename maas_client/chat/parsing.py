"""The other way: what a model wrote, back into content and tool calls."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from maas_client.chat.templates import ChatTemplate

_FUNCTOOLS = "functools"
"""Phi-4-mini's other habit, from its cookbook's prompt: ``functools[{"name": …}]``."""


def parse_completion(text: str, template: ChatTemplate) -> tuple[str, list[dict[str, Any]]]:
    """Split an answer into its content and its tool calls, in OpenAI's shape.

    The answer is cut at the template's first stop string. Text that only looks like a call (no
    JSON, no name) stays content. A call's id is a hash of the call and its place in the answer.
    """
    ends = [at for stop in template.stop_strings if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    if template.tools is None:
        return text, []
    before, after = re.escape(template.tools.call_before), re.escape(template.tools.call_after)
    calls: list[dict[str, Any]] = []

    def take(match: re.Match[str]) -> str:
        found = list(_calls(match["body"]))
        calls.extend(found)
        return "" if found else match[0]

    content = re.sub(f"{before}(?P<body>.*?)(?:{after}|$)", take, text, flags=re.DOTALL)
    if not calls:
        content = re.sub(rf"{_FUNCTOOLS}\s*(?P<body>\[.*\])", take, content, flags=re.DOTALL)
    return (content.strip() if calls else content), [
        {"id": _call_id(at, call), "type": "function", "function": call}
        for at, call in enumerate(calls)
    ]


def _calls(body: str) -> Iterator[dict[str, str]]:
    try:
        said = json.loads(body)
    except ValueError:
        return
    for call in said if isinstance(said, list) else [said]:
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            continue
        arguments = call.get("arguments", call.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        yield {"name": call["name"], "arguments": arguments}


def _call_id(at: int, call: Mapping[str, str]) -> str:
    named = f"{at}\0{call['name']}\0{call['arguments']}"
    return "call_" + hashlib.sha256(named.encode()).hexdigest()[:24]
