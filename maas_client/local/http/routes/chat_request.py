"""Validation of chat requests: parameters, messages, and errors in the format of each route."""

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
_KNOWN_PARAMETERS = frozenset(
    {*_SAMPLING, "messages", "model", "max_completion_tokens", "stream", "stream_options", "tools",
     "tool_choice", "parallel_tool_calls", "response_format", "n", "user", "metadata", "store",
     "logprobs"}
)  # fmt: skip
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def read_chat_request(context: RequestContext) -> ChatRequest:
    """Return the validated chat request. Raises ``ApiError`` in the format of the route."""
    body = context.json
    make_error = _make_error_factory(context)
    _check_unknown_parameters(context, make_error)
    _check_unsupported(body, make_error)
    tools = body.get("tools")
    if tools is not None and not _is_list_of_objects(tools):
        raise make_error("tools", "must be a list of functions")
    tool_choice = body.get("tool_choice")
    params = _params(body, make_error)
    return ChatRequest(
        _messages(body, make_error), None if tool_choice == "none" else tools or None, params
    )


ErrorFactory = Callable[[str, str], ApiError]


def _make_error_factory(context: RequestContext) -> ErrorFactory:
    inference = context.op in (CHAT_INFERENCE, INFERENCE_CHAT)

    def make_error(name: str, why: str) -> ApiError:
        if inference:
            text = f"One of the parameters contain invalid values: {name} {why}."
            return ApiError(422, "parameter_not_supported", text, target=name)
        return ApiError(400, "invalid_value", f"{name} {why}.", target=name)

    return make_error


def _check_unknown_parameters(context: RequestContext, make_error: ErrorFactory) -> None:
    """Refuse unknown parameters.

    The inference route accepts them when its header ``extra-parameters`` is ``drop`` or ``pass-through``.
    """
    unknown = sorted(set(context.json) - _KNOWN_PARAMETERS)
    extra_parameters = context.request.headers.get("extra-parameters", "error").lower()
    if not unknown or (
        extra_parameters in ("drop", "pass-through")
        and context.op in (CHAT_INFERENCE, INFERENCE_CHAT)
    ):
        return
    raise make_error(unknown[0][:60], "is not a parameter of this model")


def _check_unsupported(body: Mapping[str, Any], make_error: ErrorFactory) -> None:
    if body.get("n", 1) not in (1, None):
        raise make_error("n", "must be 1: this server returns one choice")
    if body.get("logprobs"):
        raise make_error("logprobs", "is not supported")
    response_format = body.get("response_format")
    if response_format is not None and (
        not isinstance(response_format, dict) or response_format.get("type") != "text"
    ):
        raise make_error("response_format", "must be of type text: this model supports no other")
    if not isinstance(body.get("stream", False), bool | None):
        raise make_error("stream", "must be true or false")
    tool_choice = body.get("tool_choice", "auto")
    if tool_choice not in ("auto", "none", None):
        raise make_error("tool_choice", "must be auto or none")


def _messages(body: Mapping[str, Any], make_error: ErrorFactory) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if not _is_list_of_objects(messages) or not messages:
        raise make_error("messages", "must be a list of at least one message")
    for index, message in enumerate(messages):
        if message.get("role") not in _ROLES:
            raise make_error(
                f"messages[{index}].role", f"must be one of {', '.join(sorted(_ROLES))}"
            )
        content = message.get("content")
        if content is None and not message.get("tool_calls"):
            raise make_error(f"messages[{index}].content", "is missing")
        if not isinstance(content, str | None) and not _is_list_of_text_parts(content):
            raise make_error(
                f"messages[{index}].content", "must be text: this model does not accept images"
            )
    return [_normalize_message(message) for message in messages]


def _normalize_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return the message with its content as one string and the role ``developer`` as ``system``."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    role = "system" if message["role"] == "developer" else message["role"]
    return {**message, "role": role, "content": content}


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_list_of_text_parts(content: Any) -> bool:
    return _is_list_of_objects(content) and all(
        part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
    )


def _params(body: Mapping[str, Any], make_error: ErrorFactory) -> dict[str, Any]:
    params = {k: body[k] for k in _SAMPLING if body.get(k) is not None}
    if body.get("max_completion_tokens") is not None:
        params["max_tokens"] = body["max_completion_tokens"]
    for name, low, high in (
        ("temperature", 0, 2), ("top_p", 0, 1),
        ("frequency_penalty", -2, 2), ("presence_penalty", -2, 2),
    ):  # fmt: skip
        if name in params and not _is_number_between(params[name], low, high):
            raise make_error(name, f"must be a number from {low} to {high}")
    if "max_tokens" in params and not _is_int_at_least(params["max_tokens"], 1):
        raise make_error("max_tokens", "must be a whole number of at least 1")
    if "seed" in params and not _is_int_at_least(params["seed"], -(2**63)):
        raise make_error("seed", "must be a whole number")
    stop = params.get("stop", [])
    if not isinstance(stop, str) and not (
        isinstance(stop, list) and len(stop) <= 4 and all(isinstance(s, str) for s in stop)
    ):
        raise make_error("stop", "must be a string or up to four strings")
    return params


def _is_number_between(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and low <= value <= high


def _is_int_at_least(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**63
