"""Reading a chat request: what is understood, what is refused by name, and how each route refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from maas_client.local.http.app import RequestContext
from maas_client.local.resources.errors import ApiError
from maas_client.local.services.chat_engines import ChatRequest
from maas_client.wire.chat import CHAT_INFERENCE
from maas_client.wire.foundry import INFERENCE_CHAT

_SAMPLING = ("temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty",
             "presence_penalty")  # fmt: skip
_UNDERSTOOD = frozenset(
    {*_SAMPLING, "messages", "model", "max_completion_tokens", "stream", "stream_options", "tools",
     "tool_choice", "parallel_tool_calls", "response_format", "n", "user", "metadata", "store",
     "logprobs"}
)  # fmt: skip
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def read_chat_request(call: RequestContext) -> ChatRequest:
    """Return the chat that a request asks for. Raises ``ApiError`` in the route's own words."""
    body = call.json
    refuse = _refuser(call)
    _unknown(call, refuse)
    _only_defaults(body, refuse)
    tools = body.get("tools")
    if tools is not None and not _are_objects(tools):
        raise refuse("tools", "must be a list of functions")
    choice = body.get("tool_choice")
    params = _params(body, refuse)
    return ChatRequest(_messages(body, refuse), None if choice == "none" else tools or None, params)


Refuse = Callable[[str, str], ApiError]


def _refuser(call: RequestContext) -> Refuse:
    inference = call.op in (CHAT_INFERENCE, INFERENCE_CHAT)

    def refuse(name: str, why: str) -> ApiError:
        if inference:
            text = f"One of the parameters contain invalid values: {name} {why}."
            return ApiError(422, "parameter_not_supported", text, target=name)
        return ApiError(400, "invalid_value", f"{name} {why}.", target=name)

    return refuse


def _unknown(call: RequestContext, refuse: Refuse) -> None:
    """Refuse parameters nobody knows; the inference route may be told to drop them or let them by."""
    unknown = sorted(set(call.json) - _UNDERSTOOD)
    told = call.request.headers.get("extra-parameters", "error").lower()
    if not unknown or (
        told in ("drop", "pass-through") and call.op in (CHAT_INFERENCE, INFERENCE_CHAT)
    ):
        return
    raise refuse(unknown[0][:60], "is not a parameter of this model")


def _only_defaults(body: Mapping[str, Any], refuse: Refuse) -> None:
    if body.get("n", 1) not in (1, None):
        raise refuse("n", "must be 1: one answer is given")
    if body.get("logprobs"):
        raise refuse("logprobs", "is not supported")
    wanted = body.get("response_format")
    if wanted is not None and (not isinstance(wanted, dict) or wanted.get("type") != "text"):
        raise refuse("response_format", "must be of type text: no other is supported by this model")
    if not isinstance(body.get("stream", False), bool | None):
        raise refuse("stream", "must be true or false")
    choice = body.get("tool_choice", "auto")
    if choice not in ("auto", "none", None):
        raise refuse("tool_choice", "must be auto or none")


def _messages(body: Mapping[str, Any], refuse: Refuse) -> list[dict[str, Any]]:
    said = body.get("messages")
    if not _are_objects(said) or not said:
        raise refuse("messages", "must be a list of messages, one at least")
    for index, message in enumerate(said):
        if message.get("role") not in _ROLES:
            raise refuse(f"messages[{index}].role", f"must be one of {', '.join(sorted(_ROLES))}")
        content = message.get("content")
        if content is None and not message.get("tool_calls"):
            raise refuse(f"messages[{index}].content", "is missing")
        if not isinstance(content, str | None) and not _are_text_parts(content):
            raise refuse(f"messages[{index}].content", "must be text: this model sees no images")
    return [_plain(message) for message in said]


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose content is one string; a developer's word is the system's."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    role = "system" if message["role"] == "developer" else message["role"]
    return {**message, "role": role, "content": content}


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _are_text_parts(content: Any) -> bool:
    return _are_objects(content) and all(
        part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    )


def _params(body: Mapping[str, Any], refuse: Refuse) -> dict[str, Any]:
    given = {k: body[k] for k in _SAMPLING if body.get(k) is not None}
    if body.get("max_completion_tokens") is not None:
        given["max_tokens"] = body["max_completion_tokens"]
    for name, low, high in (
        ("temperature", 0, 2), ("top_p", 0, 1),
        ("frequency_penalty", -2, 2), ("presence_penalty", -2, 2),
    ):  # fmt: skip
        if name in given and not _within(given[name], low, high):
            raise refuse(name, f"must be a number from {low} to {high}")
    if "max_tokens" in given and not _whole(given["max_tokens"], 1):
        raise refuse("max_tokens", "must be a whole number of at least 1")
    if "seed" in given and not _whole(given["seed"], -(2**63)):
        raise refuse("seed", "must be a whole number")
    stop = given.get("stop", [])
    if not isinstance(stop, str) and not (
        isinstance(stop, list) and len(stop) <= 4 and all(isinstance(s, str) for s in stop)
    ):
        raise refuse("stop", "must be a string or up to four strings")
    return given


def _within(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and low <= value <= high


def _whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**63
