"""Validation of chat requests: parameters, messages, and errors in the format of each route.

Every parameter is honoured, has no effect on the answer, or is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from maas_client.catalog import ModelInfo
from maas_client.chat import TEMPLATES
from maas_client.chat.output_schema import (
    JSON_OBJECT,
    STRICT_EXCLUDED_KEYWORDS,
    OutputSchemaError,
    Schema,
    arguments_schema,
    check_schema,
)
from maas_client.local.bases import find_model_facts
from maas_client.local.http.app import RequestContext
from maas_client.local.resources.deployments import ServedModel
from maas_client.local.resources.errors import ApiError
from maas_client.local.services.chat_engines import ChatRequest
from maas_client.wire.chat import CHAT_INFERENCE
from maas_client.wire.foundry import INFERENCE_CHAT
from maas_client.wire.foundry_models import find_metadata_problem

_SAMPLING = ("temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty",
             "presence_penalty")  # fmt: skip
_KNOWN_PARAMETERS = frozenset(
    {*_SAMPLING, "messages", "model", "max_completion_tokens", "stream", "stream_options", "tools",
     "tool_choice", "parallel_tool_calls", "response_format", "user", "metadata", "safety_identifier",
     "prompt_cache_key"}
)  # fmt: skip
"""Parameters that are honoured, and ``user`` and the following, which never change an answer."""
_ONLY_VALUES: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "prompt_cache_retention": ("in_memory", "24h"),
    **dict.fromkeys(
        ("audio", "best_of", "data_sources", "echo", "function_call", "functions", "guided_json",
         "ignore_eos", "min_p", "min_tokens", "prediction", "reasoning", "reasoning_effort",
         "repetition_penalty", "suffix", "thinking",
         "top_a", "top_k", "user_security_context", "verbosity", "web_search_options"), ()
    ),
}  # fmt: skip
"""Parameters of OpenAI's API, Azure's and its models', with the values that mean what this server does."""
_SAMPLES = frozenset({"n", "logprobs", "top_logprobs", "logit_bias"})
"""Parameters of OpenAI's API that Model Inference does not have, unless extra ones are passed through."""
_MAX_CHOICES = 16
"""The answers that the answering process decodes at once."""
_MAX_FUNCTIONS = 128
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_STREAM_OPTIONS = frozenset({"include_usage", "include_obfuscation"})
_SCHEMA_MEMBERS = ("name", "description", "schema", "strict")
_FUNCTION_MEMBERS = ("name", "description", "parameters", "strict")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME_RULE = "must be 1 to 64 letters, digits, '_' or '-'"
_MESSAGE_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "assistant": ("role", "content", "name", "tool_calls"),
    "tool": ("role", "content", "name", "tool_call_id"),
}
_TEXT_MESSAGE_MEMBERS = ("role", "content", "name")
_UNSUPPORTED_MESSAGE_MEMBERS = ("refusal", "audio", "function_call")
_CALL_MEMBERS = ("id", "type", "function")


def read_chat_request(context: RequestContext, served: ServedModel) -> ChatRequest:
    """Return the validated chat request. Raises ``ApiError`` in the format of the route."""
    reader = _Reader(context, served)
    reader.check_parameters()
    reader.check_stream()
    messages, params = reader.messages(), reader.params()
    functions = reader.functions()
    choice, name = reader.tool_choice(functions)
    return ChatRequest(
        messages,
        context.json["tools"] if functions and choice != "none" else None,
        params,
        answer_schema=reader.answer_schema(),
        functions=[f for f in functions if name in (None, f["name"])],
        must_call=choice == "required",
        max_calls=1 if reader.body.get("parallel_tool_calls") is False else None,
        choices=reader.choices(),
        top_logprobs=reader.top_logprobs(),
    )


class _Reader:
    """Reads the parts of one request."""

    def __init__(self, context: RequestContext, served: ServedModel) -> None:
        self.body = {name: value for name, value in context.json.items() if value is not None}
        self._served = served
        self._is_simulated = context.services.simulated
        self._model = str(served.base.get("model") or served.model)
        self._facts: ModelInfo | None = find_model_facts(self._model)
        self._is_openai = self._facts is not None and self._facts.publisher == "OpenAI"
        self._is_inference = context.op in (CHAT_INFERENCE, INFERENCE_CHAT)
        self._extra = context.request.headers.get("extra-parameters", "error").lower()

    # -- errors --------------------------------------------------------------------------------

    def error(self, name: str, why: str, value: str | None = None) -> ApiError:
        """Return the error for a parameter with an invalid value."""
        sentence = f"{name}{'' if why.startswith(('.', ' ')) else ' '}{why}."
        if self._is_inference:
            text = f"One of the parameters contain invalid values: {sentence}"
            return ApiError(422, "parameter_not_supported", text, target=name, value=value)
        return ApiError(400, "invalid_value", sentence, target=name)

    def not_implemented(self, name: str, what: str) -> ApiError:
        """Return the error for a parameter that this server does not implement."""
        text = f"The local server does not implement {what}. Remove it from the request."
        return ApiError(501, "NotImplemented", text, target=name)

    def _schema_error(self, name: str, error: OutputSchemaError) -> ApiError:
        if error.is_unsupported:
            text = f"The local server does not implement this schema: {name} {error}."
            return ApiError(501, "NotImplemented", text, target=name)
        return self.error(name, f"is invalid: the schema {error}")

    # -- parameters ----------------------------------------------------------------------------

    def check_parameters(self) -> None:
        """Refuse unknown parameters, and values of known ones that are not implemented.

        On the inference route, the header ``extra-parameters`` with the value ``drop`` removes all of them,
        and with ``pass-through`` unknown ones are left to the model.
        """
        for name, value in self.body.items():
            if name in _KNOWN_PARAMETERS or self._has_sample_parameter(name):
                continue
            if self._is_inference and self._extra == "drop":
                continue
            if name in _ONLY_VALUES:
                if not any(
                    value == accepted and _same_kind(value, accepted)
                    for accepted in _ONLY_VALUES[name]
                ):
                    is_scalar = isinstance(value, bool | int | float | str)
                    text = value if isinstance(value, str) else json.dumps(value)
                    value_text = f" {text[:40]}" if is_scalar else ""
                    raise self.not_implemented(name, f"the parameter {name}{value_text}")
            elif not self._is_inference or self._extra != "pass-through":
                raise self.error(name[:60], "is not a parameter of this model")
        self._check_labels()

    def _has_sample_parameter(self, name: str) -> bool:
        return name in _SAMPLES and (not self._is_inference or self._extra == "pass-through")

    def _sample_parameter(self, name: str, default: Any) -> Any:
        return self.body.get(name, default) if self._has_sample_parameter(name) else default

    def choices(self) -> int:
        """Return the number of answers."""
        count = self._sample_parameter("n", 1)
        if not _is_int_at_least(count, 1) or count > 128:
            raise self.error("n", "must be a whole number from 1 to 128")
        if count > _MAX_CHOICES:
            raise self.not_implemented("n", f"more than {_MAX_CHOICES} answers (n {count})")
        return int(count)

    def top_logprobs(self) -> int | None:
        """Return how many of the likeliest tokens are returned; None without log probabilities."""
        is_wanted = self._sample_parameter("logprobs", False)
        count = self._sample_parameter("top_logprobs", None)
        if not isinstance(is_wanted, bool):
            raise self.error("logprobs", "must be true or false")
        if count is not None and (not _is_int_at_least(count, 0) or count > 20):
            raise self.error("top_logprobs", "must be a whole number from 0 to 20")
        if count and not is_wanted:
            raise self.error("top_logprobs", "is only allowed when logprobs is true")
        if not is_wanted:
            return None
        self._check_engine("logprobs")
        return count or 0

    def _logit_bias(self) -> dict[str, int]:
        bias = self._sample_parameter("logit_bias", {})
        if not isinstance(bias, dict) or not all(
            re.fullmatch(r"\d{1,9}", token, re.ASCII)
            and _is_int_at_least(value, -100)
            and value <= 100
            for token, value in bias.items()
        ):
            raise self.error("logit_bias", "must map tokens to whole numbers from -100 to 100")
        if bias:
            self._check_engine("logit_bias")
            if self._served.base.get("is_stand_in"):
                name = self._served.base.get("name")
                what = f"logit_bias for {self._model}, whose stand-in {name} has other tokens"
                raise self.not_implemented("logit_bias", what)
        return bias

    def _check_engine(self, name: str) -> None:
        if self._is_simulated:
            raise self.not_implemented(
                name, f"{name} with the instant engine, which has no probabilities"
            )

    def _check_labels(self) -> None:
        for name in ("user", "safety_identifier", "prompt_cache_key"):
            if not isinstance(self.body.get(name, ""), str):
                raise self.error(name, "must be a string")
        if problem := find_metadata_problem(self.body.get("metadata", {})):
            raise self.error("metadata", problem.removeprefix("metadata").removesuffix("."))
        if self._is_openai and self.body.get("metadata"):
            raise self.error("metadata", "is only allowed when store is true")

    def check_stream(self) -> None:
        """Check ``stream`` and ``stream_options``."""
        stream, options = self.body.get("stream", False), self.body.get("stream_options")
        if not isinstance(stream, bool):
            raise self.error("stream", "must be true or false")
        if options is None:
            return
        if not isinstance(options, dict) or set(options) - _STREAM_OPTIONS:
            names = ", ".join(sorted(_STREAM_OPTIONS))
            raise self.error("stream_options", f"must be an object with {names}")
        if not all(isinstance(value, bool) for value in options.values()):
            raise self.error("stream_options", "must have the values true or false")
        if not stream:
            raise self.error("stream_options", "is only allowed when stream is true")
        if options.get("include_obfuscation"):
            raise self.not_implemented("stream_options", "stream_options.include_obfuscation")

    def params(self) -> dict[str, Any]:
        """Return the sampling parameters that the request sets."""
        body = self.body
        params = {name: body[name] for name in _SAMPLING if name in body}
        if "max_completion_tokens" in body:
            if "max_tokens" in body:
                raise self.error("max_tokens", "cannot be set together with max_completion_tokens")
            params["max_tokens"] = body["max_completion_tokens"]
        for name, low, high in (
            ("temperature", 0, 2), ("top_p", 0, 1),
            ("frequency_penalty", -2, 2), ("presence_penalty", -2, 2),
        ):  # fmt: skip
            if name in params and not _is_number_between(params[name], low, high):
                raise self.error(name, f"must be a number from {low} to {high}")
        if "max_tokens" in params and not _is_int_at_least(params["max_tokens"], 1):
            name = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
            raise self.error(name, "must be a whole number of at least 1")
        if "seed" in params and not _is_int_at_least(params["seed"], -(2**63)):
            raise self.error("seed", "must be a whole number")
        stop = params.get("stop", [])
        if not isinstance(stop, str) and not (
            isinstance(stop, list) and len(stop) <= 4 and all(isinstance(s, str) for s in stop)
        ):
            raise self.error("stop", "must be a string or up to four strings")
        if bias := self._logit_bias():
            params["logit_bias"] = bias
        return params

    # -- structured answers and tools ----------------------------------------------------------

    def answer_schema(self) -> Schema | None:
        """Return the schema of the answer; None for text."""
        response_format = self.body.get("response_format")
        if response_format is None:
            return None
        kind = response_format.get("type") if isinstance(response_format, dict) else None
        if kind not in ("text", "json_object", "json_schema"):
            raise self.error("response_format", "must have type text, json_object or json_schema")
        members = ("type", "json_schema") if kind == "json_schema" else ("type",)
        self._check_members("response_format", response_format, members)
        if kind == "text":
            return None
        self._check_capability(
            "response_format", str(kind), "json" in self._formats, bool(self._formats)
        )
        if kind == "json_object":
            return JSON_OBJECT
        definition = response_format.get("json_schema")
        if not isinstance(definition, dict) or not isinstance(definition.get("name"), str):
            raise self.error("response_format", "must have a json_schema with a name")
        self._check_members("response_format.json_schema", definition, _SCHEMA_MEMBERS)
        self._check_name_and_description("response_format.json_schema", definition)
        schema = definition.get("schema", JSON_OBJECT)
        self._check_schema("response_format", schema, definition)
        return {} if schema is True else schema

    def _check_name_and_description(self, place: str, definition: Mapping[str, Any]) -> None:
        name = definition.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self.error(f"{place}.name", _NAME_RULE)
        if not isinstance(definition.get("description"), str | None):
            raise self.error(f"{place}.description", "must be a string")

    def _check_members(
        self, place: str, value: Mapping[str, Any], members: Collection[str]
    ) -> None:
        """Refuse members of an object that would have no effect."""
        for name in value:
            if name not in members:
                raise self.error(
                    f"{place}.{name[:60]}", f"is not known: {place} has {', '.join(members)}"
                )

    @property
    def _formats(self) -> Collection[str]:
        return self._facts.response_formats if self._facts else ()

    def _check_capability(
        self, name: str, value: str, is_supported: bool | None, is_known: bool
    ) -> None:
        """Refuse what the model does not do on Azure, and what no source says that it does."""
        if is_supported:
            return
        if is_known:
            raise self.error(
                name,
                f"{value} is not supported by {self._model} (catalog: {self._source(name)})",
                value,
            )
        raise self.not_implemented(
            name, f"{name} {value} for {self._model}: the catalog does not say that it has it"
        )

    def _source(self, name: str) -> str:
        field = "response_formats" if name == "response_format" else "tool_calling"
        source = self._facts.get_source(field) if self._facts else None
        return source.title if source else "no source"

    def _check_schema(self, name: str, schema: Any, definition: Mapping[str, Any]) -> None:
        strict = definition.get("strict", False)
        if not isinstance(strict, bool | None):
            raise self.error(name, "must have strict true or false")
        excluded = STRICT_EXCLUDED_KEYWORDS if strict and self._is_openai else frozenset[str]()
        try:
            check_schema(schema, strict=bool(strict), excluded_keywords=excluded)
        except OutputSchemaError as error:
            raise self._schema_error(name, error) from None

    def functions(self) -> list[dict[str, Any]]:
        """Return the functions of ``tools``: ``name`` and ``parameters``."""
        tools = self.body.get("tools", [])
        if not _is_list_of_objects(tools) or len(tools) > _MAX_FUNCTIONS:
            raise self.error("tools", f"must be a list of at most {_MAX_FUNCTIONS} functions")
        if tools and self._facts and TEMPLATES[self._facts.template].tools is None:
            raise self.error(
                "tools", f"is not supported by {self._model}: its chat template has no tools"
            )
        functions = [self._function(f"tools[{index}]", tool) for index, tool in enumerate(tools)]
        names = [function["name"] for function in functions]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise self.error(f"tools[{index}].function.name", f"{name} is used twice")
        return functions

    def _function(self, place: str, tool: Mapping[str, Any]) -> dict[str, Any]:
        if tool.get("type", "function") != "function":
            raise self.not_implemented("tools", f"tools of type {str(tool.get('type'))[:40]}")
        function = tool.get("function")
        if not isinstance(function, dict):
            raise self.error(f"{place}.function", "must be an object")
        self._check_members(place, tool, ("type", "function"))
        self._check_members(f"{place}.function", function, _FUNCTION_MEMBERS)
        self._check_name_and_description(f"{place}.function", function)
        parameters = function.get("parameters")
        if not isinstance(parameters, dict | None):
            raise self.error(f"{place}.function.parameters", "must be a JSON schema")
        if parameters and parameters.get("type", "object") != "object":
            raise self.error(f"{place}.function.parameters", "must have type object")
        self._check_schema(f"{place}.function.parameters", arguments_schema(function), function)
        return {"name": function["name"], "parameters": parameters}

    def tool_choice(self, functions: list[dict[str, Any]]) -> tuple[str, str | None]:
        """Return ``auto``, ``none`` or ``required``, and the function that must be called, if one is named."""
        if not isinstance(self.body.get("parallel_tool_calls", True), bool):
            raise self.error("parallel_tool_calls", "must be true or false")
        if self._is_openai and "parallel_tool_calls" in self.body and not functions:
            raise self.error("parallel_tool_calls", "is only allowed when tools are specified")
        choice = self.body.get("tool_choice", "auto")
        if choice in ("auto", "none"):
            return (str(choice) if functions else "none"), None
        name = None
        if isinstance(choice, dict) and choice.get("type") == "function":
            self._check_members("tool_choice", choice, ("type", "function"))
            function = choice.get("function")
            if isinstance(function, dict):
                self._check_members("tool_choice.function", function, ("name",))
            name = str(function.get("name")) if isinstance(function, dict) else ""
            if functions and name not in [f["name"] for f in functions]:
                raise self.error("tool_choice", f"names {name[:64]!r}, which is not in tools")
        elif isinstance(choice, dict) and choice.get("type") in ("allowed_tools", "custom"):
            raise self.not_implemented("tool_choice", f"tool_choice of type {choice['type']}")
        elif choice != "required":
            raise self.error("tool_choice", "must be auto, none, required or a function")
        if not functions:
            raise self.error("tool_choice", "is only allowed when tools are specified")
        supported = self._facts.tool_calling if self._facts else None
        value = "required" if choice == "required" else "function"
        self._check_capability("tool_choice", value, supported, supported is not None)
        return "required", name

    # -- messages ------------------------------------------------------------------------------

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages, normalized."""
        messages = self.body.get("messages")
        if not _is_list_of_objects(messages) or not messages:
            raise self.error("messages", "must be a list of at least one message")
        call_ids: set[str] = set()
        for index, message in enumerate(messages):
            self._check_message(f"messages[{index}]", message, call_ids)
        return [_normalize_message(message) for message in messages]

    def _check_message(self, place: str, message: dict[str, Any], call_ids: set[str]) -> None:
        """Check one message, and add the ids of its calls to those of the messages before it."""
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise self.error(f"{place}.role", f"must be one of {', '.join(sorted(_ROLES))}")
        # Clients send back the members of an answer that are null or empty, such as annotations.
        present = {name: value for name, value in message.items() if value not in (None, [])}
        for name in _UNSUPPORTED_MESSAGE_MEMBERS:
            if name in present and role == "assistant":
                raise self.not_implemented(f"{place}.{name}", f"{place}.{name}")
        members = _MESSAGE_MEMBERS.get(role, _TEXT_MESSAGE_MEMBERS)
        self._check_members(place, present, members)
        if not isinstance(message.get("name"), str | None):
            raise self.error(f"{place}.name", "must be a string")
        self._check_content(f"{place}.content", message, has_calls="tool_calls" in present)
        if role == "tool":
            call_id = message.get("tool_call_id")
            if not isinstance(call_id, str):
                raise self.error(f"{place}.tool_call_id", "must be the id of a tool call")
            if call_id not in call_ids:
                raise self.error(
                    f"{place}.tool_call_id",
                    f"is {call_id[:60]!r}: no earlier message has a tool call with this id",
                )
        for number, call in enumerate(self._tool_calls(place, present)):
            call_ids.add(self._call_id(f"{place}.tool_calls[{number}]", call))

    def _check_content(self, place: str, message: dict[str, Any], *, has_calls: bool) -> None:
        content = message.get("content")
        if content is None and not has_calls:
            raise self.error(place, "is missing")
        if content == []:
            raise self.error(place, "must have at least one part")
        if not isinstance(content, str | None) and not _is_list_of_text_parts(content):
            raise self.error(place, "must be text: this model does not accept images")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            self._check_members(f"{place}[{number}]", part, ("type", "text"))

    def _tool_calls(self, place: str, message: dict[str, Any]) -> list[dict[str, Any]]:
        calls = message.get("tool_calls", [])
        if not _is_list_of_objects(calls):
            raise self.error(f"{place}.tool_calls", "must be a list of tool calls")
        return list(calls)

    def _call_id(self, place: str, call: dict[str, Any]) -> str:
        """Check a tool call of an assistant message, and return its id."""
        self._check_members(place, call, _CALL_MEMBERS)
        if not isinstance(call.get("id"), str):
            raise self.error(f"{place}.id", "must be a string")
        if call.get("type") != "function":
            raise self.error(f"{place}.type", "must be function")
        function = call.get("function")
        if not isinstance(function, dict):
            raise self.error(f"{place}.function", "must be an object")
        self._check_members(f"{place}.function", function, ("name", "arguments"))
        for name in ("name", "arguments"):
            if not isinstance(function.get(name), str):
                raise self.error(f"{place}.function.{name}", "must be a string")
        try:
            json.loads(function["arguments"] or "{}")
        except (ValueError, RecursionError):
            raise self.error(f"{place}.function.arguments", "must be JSON") from None
        return str(call["id"])


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


def _same_kind(value: Any, accepted: Any) -> bool:
    return isinstance(value, bool) == isinstance(accepted, bool)


def _is_number_between(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and low <= value <= high


def _is_int_at_least(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < 2**63
