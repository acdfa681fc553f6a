"""Chat on an endpoint: both dialects, exact stream frames, errors in the format of each route."""

from __future__ import annotations

import json

import jsonschema  # noqa: TID253 - judges the answers
import pytest

from tests.contract.server.conftest import Azure, chats

CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "look_up", "arguments": '{"city": "Bern"}'},
}
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


def rows() -> bytes:
    tool_row = {
        "tools": TOOLS,
        "messages": [
            {"role": "user", "content": "weather in Bern"},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "assistant", "content": "It rains in Bern."},
        ],
    }
    return chats() + json.dumps(tool_row).encode() + b"\n"


@pytest.fixture(scope="module")
def uri(azure: Azure) -> str:
    model = "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1"  # its template supports tools
    details = {"model": {"jobInputType": "mlflow_model", "uri": model}}
    assert azure.job("chatty", rows(), details=details) == "Completed", azure.error("chatty")
    return azure.deploy("chatty", azure.model_id("chatty"))


def frames(response) -> list:
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    for line in blocks:  # only `data: ` lines: azure-ai-inference raises on any other
        assert line.startswith("data: ")
        assert "\n" not in line
        assert "\r" not in line
    assert blocks.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_complete_response(azure: Azure, uri):
    response = azure.chat(uri, "what is 3 plus 3")
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "it is 6, dear friend number 3",
    }
    assert body["choices"][0]["finish_reason"] == "stop"
    assert (
        body["usage"]["total_tokens"]
        == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    )
    assert response.headers["x-maas-simulated"] == "true"


def test_stream_equals_complete_response(azure: Azure, uri):
    chunks = frames(azure.chat(uri, "what is 3 plus 3", stream=True))
    assert {f["object"] for f in chunks} == {"chat.completion.chunk"}
    assert len({f["id"] for f in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(f["choices"][0]["delta"].get("content", "") for f in chunks)
    assert text == "it is 6, dear friend number 3"
    assert [f["choices"][0]["finish_reason"] for f in chunks][-1] == "stop"
    assert all(f["choices"][0]["finish_reason"] is None for f in chunks[:-1])


def test_usage_in_stream(azure: Azure, uri):
    chunks = frames(
        azure.chat(uri, "what is 3 plus 3", stream=True, stream_options={"include_usage": True})
    )
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0


def test_inference_route(azure: Azure, uri):
    body = {"messages": [{"role": "user", "content": "what is 3 plus 3"}], "max_tokens": 2}
    response = azure.http.post(
        f"{uri}/chat/completions?api-version=2024-05-01-preview",
        json=body,
        headers={"api-key": "K"},
    )
    assert response.json()["choices"][0]["message"]["content"] == "it is"
    assert response.json()["choices"][0]["finish_reason"] == "length"
    assert set(response.json()["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    info = azure.http.get(f"{uri}/info?api-version=2024-05-01-preview").json()
    assert info["model_type"] == "chat-completion"
    assert "simulated" in info["model_provider_name"]
    assert azure.http.get(f"{uri}/v1/models").json()["data"][0]["id"] == info["model_name"]


def test_tool_calls(azure: Azure, uri):
    body = azure.chat(uri, "weather in Bern please", tools=TOOLS).json()["choices"][0]
    assert body["finish_reason"] == "tool_calls"
    assert body["message"]["tool_calls"][0]["function"] == CALL["function"]
    assert body["message"]["content"] is None
    chunks = frames(azure.chat(uri, "weather in Bern please", tools=TOOLS, stream=True))
    calls = [
        f["choices"][0]["delta"]["tool_calls"][0]
        for f in chunks
        if "tool_calls" in f["choices"][0]["delta"]
    ]
    assert calls[0]["index"] == 0
    assert calls[0]["function"] == CALL["function"]


def test_stop_and_content_parts(azure: Azure, uri):
    body = azure.chat(uri, "what is 3 plus 3", stop=["dear"]).json()["choices"][0]
    assert body["message"]["content"] == "it is 6, "
    parts = [{"type": "text", "text": "what is "}, {"type": "text", "text": "3 plus 3"}]
    response = azure.http.post(
        f"{uri}/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]}
    )
    assert response.json()["choices"][0]["message"]["content"].startswith("it is 6")


BAD = [
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [1]}, "messages"),
    ({"messages": [{"role": "pirate", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content",
    ),
    *(
        ({"messages": [{"role": "user", "content": "x"}, message]}, f"messages[1].{place}")
        for message, place in (
            ({"role": "user", "content": "x", "foo": 1}, "foo"),
            ({"role": "user", "content": "x", "tool_calls": [CALL]}, "tool_calls"),
            ({"role": "assistant", "content": "x", "tool_call_id": "c1"}, "tool_call_id"),
            ({"role": "user", "content": "x", "name": 5}, "name"),
            ({"role": ["user"], "content": "x"}, "role"),
            ({"role": "user", "content": []}, "content"),
            (
                {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]},
                "content[0].cache_control",
            ),
            ({"role": "tool", "content": "x"}, "tool_call_id"),
            ({"role": "tool", "content": "x", "tool_call_id": "c9"}, "tool_call_id"),
            ({"role": "assistant", "tool_calls": [5]}, "tool_calls"),
            ({"role": "assistant", "tool_calls": "x"}, "tool_calls"),
            ({"role": "assistant", "tool_calls": [{**CALL, "zzz": 1}]}, "tool_calls[0].zzz"),
            ({"role": "assistant", "tool_calls": [{**CALL, "id": None}]}, "tool_calls[0].id"),
            ({"role": "assistant", "tool_calls": [{**CALL, "type": "x"}]}, "tool_calls[0].type"),
            (
                {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f"}}]},
                "tool_calls[0].function.arguments",
            ),
            (
                {
                    "role": "assistant",
                    "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}],
                },
                "tool_calls[0].function.arguments",
            ),
        )
    ),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": 10**400}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 2**70}, "max_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"seed": "x"}, "seed"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"response_format": {"type": "yaml"}}, "response_format"),
    ({"tools": "x"}, "tools"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [*TOOLS, *TOOLS]}, "tools[1].function.name"),
    (
        {"tools": [{"type": "function", "function": {"name": "a.b"}}]},
        "tools[0].function.name",
    ),
    (
        {"tools": [{"type": "function", "function": {"name": "a", "description": 1}}]},
        "tools[0].function.description",
    ),
    ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
    ({"tools": TOOLS, "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_all": True}}, "stream_options"),
    ({"max_tokens": 2, "max_completion_tokens": 2}, "max_tokens"),
    ({"user": 3}, "user"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"metadata": {"a": "x" * 513}}, "metadata"),
    ({"metadata": {"a" * 65: "x"}}, "metadata"),
    ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(129)]}, "tools"),
    ({"stream": "yes"}, "stream"),
    ({"brand_new": 1}, "brand_new"),
]


@pytest.mark.parametrize(("change", "name"), BAD)
def test_invalid_parameter_is_named(azure: Azure, uri, change, name):
    body = {"messages": [{"role": "user", "content": "x"}], **change}
    openai = azure.http.post(f"{uri}/v1/chat/completions", json=body)
    assert (openai.status_code, openai.json()["error"]["param"]) == (400, name)
    inference = azure.http.post(f"{uri}/chat/completions", json=body)
    assert (inference.status_code, inference.json()["code"]) == (422, "parameter_not_supported")
    assert inference.json()["detail"]["loc"] == ["body", name]


@pytest.mark.parametrize("policy", ["drop", "pass-through", "DROP"])
def test_extra_parameters_header(azure: Azure, uri, policy):
    body = {"messages": [{"role": "user", "content": "x"}], "safe_prompt": True}
    response = azure.http.post(
        f"{uri}/chat/completions", json=body, headers={"extra-parameters": policy}
    )
    assert response.status_code == 200
    response = azure.http.post(
        f"{uri}/v1/chat/completions", json=body, headers={"extra-parameters": policy}
    )
    assert response.status_code == 400


def test_refused_stream_is_not_200(azure: Azure, uri):
    response = azure.chat(uri, "x", stream=True, temperature=9)
    assert response.status_code == 400


def test_unknown_headers_are_accepted(azure: Azure, uri):
    body = {"messages": [{"role": "user", "content": "x"}]}
    headers = {"x-stainless-retry-count": "0", "x-brand-new": "1"}
    assert (
        azure.http.post(f"{uri}/v1/chat/completions", json=body, headers=headers).status_code == 200
    )


NOT_IMPLEMENTED = [
    ("n", 17), ("logprobs", True), ("logit_bias", {"5": 1}), ("store", True),
    ("service_tier", "priority"), ("reasoning_effort", "low"), ("verbosity", "low"), ("top_k", 3),
    ("functions", [{"name": "f"}]), ("function_call", "auto"), ("modalities", ["audio"]),
    ("prediction", {"type": "content", "content": "x"}), ("web_search_options", {}), ("audio", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), NOT_IMPLEMENTED)
def test_parameter_that_is_not_implemented_is_named(azure: Azure, uri, name, value):
    body = {"messages": [{"role": "user", "content": "x"}], name: value}
    openai = azure.http.post(f"{uri}/v1/chat/completions", json=body)
    assert (openai.status_code, openai.json()["error"]["param"]) == (501, name)
    assert openai.headers["x-should-retry"] == "false"  # OpenAI's clients would send it again
    inference = azure.http.post(f"{uri}/chat/completions", json=body)
    assert (inference.status_code, inference.json()["error"]["target"]) == (501, name)
    dropped = azure.http.post(
        f"{uri}/chat/completions", json=body, headers={"extra-parameters": "drop"}
    )
    assert dropped.status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0), ("n", True), ("n", 1.5), ("n", "2"), ("n", 129), ("logprobs", "yes"), ("logprobs", 1),
        ("top_logprobs", 2), ("top_logprobs", 21), ("top_logprobs", True), ("logit_bias", {"x": 1}),
        ("logit_bias", {"5": 101}), ("logit_bias", {"5": 0.5}), ("logit_bias", [5]),
    ],
)  # fmt: skip
def test_sample_parameter_with_a_wrong_value_is_named(azure: Azure, uri, name, value):
    body = {"messages": [{"role": "user", "content": "x"}], name: value}
    response = azure.http.post(f"{uri}/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, name)
    # Model Inference has none of them
    response = azure.http.post(f"{uri}/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["target"]) == (501, name)
    headers = {"extra-parameters": "pass-through"}
    response = azure.http.post(f"{uri}/chat/completions", json=body, headers=headers)
    assert (response.status_code, response.json()["error"]["target"]) == (422, name)


def test_several_answers(azure: Azure, uri):
    one = azure.chat(uri, "what is 3 plus 3").json()
    three = azure.chat(uri, "what is 3 plus 3", n=3, seed=5).json()
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert [choice["message"] for choice in three["choices"]] == [one["choices"][0]["message"]] * 3
    usage = {"prompt_tokens": one["usage"]["prompt_tokens"]}
    usage["completion_tokens"] = 3 * one["usage"]["completion_tokens"]
    usage["total_tokens"] = sum(usage.values())
    usage["prompt_tokens_details"] = {"cached_tokens": 0}
    assert three["usage"] == usage
    options = {"stream": True, "stream_options": {"include_usage": True}}
    lines = azure.chat(uri, "what is 3 plus 3", n=3, **options).text.splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line and "[DONE]" not in line]
    texts, ends = {}, []
    for chunk in chunks:
        for choice in chunk["choices"]:
            text = choice["delta"].get("content", "")
            texts[choice["index"]] = texts.get(choice["index"], "") + text
            ends += [choice["index"]] if choice["finish_reason"] == "stop" else []
    assert list(texts.values()) == [one["choices"][0]["message"]["content"]] * 3
    assert (sorted(ends), chunks[-1]["usage"]) == ([0, 1, 2], usage)
    # Model Inference has no such parameter; passed through, it works
    body = {"messages": [{"role": "user", "content": "x"}], "n": 2}
    for policy, count in (("pass-through", 2), ("drop", 1)):
        headers = {"extra-parameters": policy}
        answer = azure.http.post(f"{uri}/chat/completions", json=body, headers=headers)
        assert len(answer.json()["choices"]) == count


@pytest.mark.parametrize(
    "member", [{"refusal": "no"}, {"audio": {"id": "a"}}, {"function_call": {"name": "f"}}]
)
def test_message_member_that_is_not_implemented_is_named(azure: Azure, uri, member):
    name = f"messages[0].{next(iter(member))}"
    for route in ("/v1/chat/completions", "/chat/completions"):
        body = {"messages": [{"role": "assistant", "content": "x", **member}]}
        response = azure.http.post(uri + route, json=body)
        assert response.status_code == 501
        assert name in response.text


def test_answer_is_accepted_as_a_message_of_the_next_request(azure: Azure, uri):
    empty = {"refusal": None, "audio": None, "function_call": None, "annotations": []}
    messages = [
        {"role": "user", "content": "weather in Bern", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], **empty},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    for route in ("/v1/chat/completions", "/chat/completions"):
        response = azure.http.post(uri + route, json={"messages": messages, "tools": TOOLS})
        assert response.status_code == 200, response.text


def test_parameters_without_effect_are_accepted(azure: Azure, uri):
    response = azure.chat(
        uri, "what is 3 plus 3", n=1, store=False, metadata={"a": "b"}, user="u", logprobs=False,
        logit_bias={}, service_tier="auto", modalities=["text"], safety_identifier="s", seed=None,
        prompt_cache_key="p", prompt_cache_retention="24h", parallel_tool_calls=True, tool_choice="none",
    )  # fmt: skip
    assert response.status_code == 200
    assert response.json()["service_tier"] == "default"


@pytest.fixture(scope="module")
def ministral(azure: Azure) -> str:
    """An endpoint of a model that documents JSON answers and tool calls."""
    return azure.deploy("ministral", "azureml://registries/azureml-mistral/models/Ministral-3B")


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "price": {"type": "integer", "minimum": 3},
        "color": {"enum": ["red", "blue"]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "minItems": 2},
    },
    "required": ["name", "price", "color", "parts"],
    "additionalProperties": False,
    "$defs": {
        "part": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/part"}, {"type": "null"}]}},
            "required": ["next"],
            "additionalProperties": False,
        }
    },
}


def json_schema(schema, strict=True):
    return {
        "type": "json_schema",
        "json_schema": {"name": "thing", "strict": strict, "schema": schema},
    }


def test_json_answers(azure: Azure, ministral):
    response = azure.chat(ministral, "hello", response_format={"type": "json_object"})
    assert isinstance(json.loads(response.json()["choices"][0]["message"]["content"]), dict)
    answer = azure.chat(ministral, "hello", response_format=json_schema(SCHEMA)).json()
    value = json.loads(answer["choices"][0]["message"]["content"])
    jsonschema.validate(value, SCHEMA)
    chunks = frames(
        azure.chat(ministral, "hello", response_format=json_schema(SCHEMA), stream=True)
    )
    text = "".join(f["choices"][0]["delta"].get("content", "") for f in chunks)
    assert json.loads(text) == value


def test_schema_in_the_prompt_is_used_for_a_json_object(azure: Azure, ministral):
    prompt = f"Answer in this schema: {{no}} {json.dumps(SCHEMA)}"
    answer = azure.chat(ministral, prompt, response_format={"type": "json_object"}).json()
    jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), SCHEMA)


@pytest.mark.parametrize(
    ("schema", "status", "words"),
    [
        ({**SCHEMA, "not": {}}, 501, "keyword not"),
        ({"type": "object", "properties": {"a": {"format": "iri"}}}, 501, "format iri"),
        ({"type": "object", "properties": {"a": {"uniqueItems": True}}}, 501, "uniqueItems"),
        ({"$ref": "https://example.org/schema"}, 501, "$ref"),
        ({"type": "object", "properties": {"a": {"$ref": "#/no"}}}, 400, "does not exist"),
        ({"type": "thing"}, 400, "no JSON schema"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, 400, "pattern"),
        ("x", 400, "must be an object"),
        ({"type": "string", "format": ["a"]}, 400, "format"),
        ({"properties": {"a": {"$id": "z", "type": "string"}}}, 501, "$id"),
        ({"type": "array", "minItems": 1e9}, 501, "minItems"),
        ({"type": "string", "minLength": 20000.0}, 501, "minLength"),
        ({"type": "string", "pattern": "^([ -~]+)*\n$"}, 501, "pattern"),
        ({"type": "string", "pattern": "^(a?){50}$"}, 501, "pattern"),
        ({"type": "string", "pattern": "^(-a*a*)*$"}, 501, "pattern"),
        ({"type": "string", "pattern": "(){1000000000}"}, 501, "pattern"),
    ],
)
def test_schema_that_is_not_honoured_is_refused_by_name(
    azure: Azure, ministral, schema, status, words
):
    response = azure.chat(ministral, "x", response_format=json_schema(schema, strict=False))
    assert response.elapsed.total_seconds() < 5
    assert (response.status_code, response.json()["error"]["param"]) == (status, "response_format")
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize("schema", [{"const": "\ud800"}, {"properties": {"\ud800": {}}}])
def test_schema_with_half_of_a_surrogate_pair_is_refused(azure: Azure, ministral, schema):
    response = azure.chat(ministral, "x", response_format=json_schema(schema, strict=False))
    assert response.status_code == 400
    assert "surrogate pair" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"allOf": [{"$ref": "#"}]}, "recursive"),
        ({"anyOf": [False]}, "no value for anyOf"),
        (
            {"type": "array", "minItems": 3000, "items": {"type": "array", "minItems": 3000}},
            "steps",
        ),
        (
            {
                "$ref": "#/$defs/n",
                "$defs": {
                    "n": {"anyOf": [{"$ref": "#/$defs/m"}] * 4},
                    "m": {
                        "type": "object",
                        "properties": {"x": {"$ref": "#/$defs/n"}},
                        "required": ["x"],
                    },
                },
            },
            "steps",
        ),
    ],
)
def test_schema_without_an_answer_is_refused(azure: Azure, ministral, schema, words):
    response = azure.chat(ministral, "x", response_format=json_schema(schema, strict=False))
    assert response.elapsed.total_seconds() < 5
    assert response.status_code == 501
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize("schema", [False, {"$ref": "#"}])
def test_schema_that_is_no_schema_of_an_answer_is_400(azure: Azure, ministral, schema):
    response = azure.chat(ministral, "x", response_format=json_schema(schema, strict=False))
    assert response.status_code == 400
    assert "the schema" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [True]},
        {"anyOf": [False, {"type": "integer"}]},
        {"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "string"}}},
        {"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"},
        {"type": "string", "pattern": "^[^@ ]+@[^@ ]+$"},
    ],
)
def test_schema_that_is_honoured(azure: Azure, ministral, schema):
    response = azure.chat(ministral, "x", response_format=json_schema(schema, strict=False))
    assert response.status_code == 200
    jsonschema.validate(json.loads(response.json()["choices"][0]["message"]["content"]), schema)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"additionalProperties": True}, "additionalProperties"),
        ({"required": ["name"]}, "required"),
        ({"type": "array"}, "type object at its root"),
    ],
)
def test_rules_of_strict_schemas(azure: Azure, ministral, change, words):
    schema = {**SCHEMA, **change}
    response = azure.chat(ministral, "x", response_format=json_schema(schema))
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]
    assert azure.chat(ministral, "x", response_format=json_schema(SCHEMA)).status_code == 200


def price_tool(name, schema=SCHEMA):
    return {"type": "function", "function": {"name": name, "parameters": schema}}


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"response_format": {"type": "text", "json_schema": {}}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "foo": 1}}},
            "response_format.json_schema.foo",
        ),
        *(
            (
                {"response_format": {"type": "json_schema", "json_schema": {"name": name}}},
                "response_format.json_schema.name",
            )
            for name in ("", "a b!", "a" * 65)
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "description": 5},
                }
            },
            "response_format.json_schema.description",
        ),
        ({"tools": [{**price_tool("a"), "zzz": 1}]}, "tools[0].zzz"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "zzz": 1}}]},
            "tools[0].function.zzz",
        ),
        ({"tools": [price_tool("a", {"type": "string"})]}, "tools[0].function.parameters"),
        (
            {"tools": [price_tool("a", {"type": ["string", "object"]})]},
            "tools[0].function.parameters",
        ),
        (
            {
                "tools": [price_tool("a")],
                "tool_choice": {"type": "function", "function": {"name": "a"}, "x": 1},
            },
            "tool_choice.x",
        ),
    ],
)
def test_members_without_effect_are_refused_by_name(azure: Azure, ministral, parameters, place):
    response = azure.chat(ministral, "x", **parameters)
    assert (response.status_code, response.json()["error"]["param"]) == (400, place)


def test_max_tokens_cuts_the_arguments_of_a_call(azure: Azure, ministral):
    body = {"tools": [price_tool("a")], "tool_choice": "required"}
    whole = azure.chat(ministral, "x", **body).json()["choices"][0]
    cut = azure.chat(ministral, "x", **body, max_tokens=1).json()["choices"][0]
    assert (whole["finish_reason"], cut["finish_reason"]) == ("tool_calls", "length")
    arguments = [c["message"]["tool_calls"][0]["function"]["arguments"] for c in (whole, cut)]
    assert arguments[1] == arguments[0].split(" ")[0]


def test_tool_choice(azure: Azure, ministral):
    tools = [price_tool("price"), price_tool("stock", {"type": "object", "properties": {}})]
    for choice, expected in (
        ("required", "price"),
        ({"type": "function", "function": {"name": "stock"}}, "stock"),
    ):
        answer = azure.chat(ministral, "hello", tools=tools, tool_choice=choice).json()["choices"][
            0
        ]
        assert answer["finish_reason"] == "tool_calls"
        (call,) = answer["message"]["tool_calls"]
        assert (call["type"], call["function"]["name"]) == ("function", expected)
        parameters = next(t for t in tools if t["function"]["name"] == expected)["function"][
            "parameters"
        ]
        jsonschema.validate(json.loads(call["function"]["arguments"]), parameters)
        chunks = frames(
            azure.chat(ministral, "hello", tools=tools, tool_choice=choice, stream=True)
        )
        streamed = [c for f in chunks for c in f["choices"][0]["delta"].get("tool_calls", ())]
        assert [(c["index"], c["function"]) for c in streamed] == [(0, call["function"])]
    for choice in ("auto", "none"):
        answer = azure.chat(ministral, "hello", tools=tools, tool_choice=choice).json()["choices"][
            0
        ]
        assert answer["finish_reason"] == "stop"


def test_memorized_call_is_used_only_if_it_fits_the_tools(azure: Azure, uri):
    other_tools = [{**TOOLS[0], "function": {"name": "other"}}]
    strict = [price_tool("look_up", {"type": "object", "required": ["zip"]})]
    for tools in (other_tools, strict):
        answer = azure.chat(uri, "weather in Bern please", tools=tools).json()["choices"][0]
        assert answer["finish_reason"] == "stop"
        assert "tool_calls" not in answer["message"]


def test_tools_are_refused_for_a_model_whose_template_has_none(azure: Azure):
    phi3 = azure.deploy("phi3", "azureml://registries/azureml/models/Phi-3-mini-4k-instruct")
    response = azure.chat(phi3, "x", tools=TOOLS)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tools")
    response = azure.chat(phi3, "x", response_format={"type": "json_object"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "response_format")


def test_refused_response_format_has_the_documented_body(azure: Azure, uri):
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_object"},
    }
    answer = azure.http.post(f"{uri}/chat/completions", json=body).json()
    assert (answer["status"], answer["code"]) == (422, "parameter_not_supported")
    assert answer["detail"] == {"loc": ["body", "response_format"], "input": "json_object"}


@pytest.fixture(scope="module")
def gpt(azure: Azure) -> str:
    """An endpoint of a model of OpenAI."""
    return azure.deploy("gpt", "gpt-4.1-mini")


def test_strict_schemas_of_openai_models_have_fewer_keywords(azure: Azure, gpt):
    response = azure.chat(gpt, "x", response_format=json_schema(SCHEMA))
    assert response.status_code == 400
    assert "must not use" in response.json()["error"]["message"]
    assert azure.chat(gpt, "x", response_format=json_schema(SCHEMA, False)).status_code == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"a": "b"}}, "metadata is only allowed when store is true."),
        ({"metadata": {"a": 1}}, "metadata.a must be a string."),
        (
            {"parallel_tool_calls": False},
            "parallel_tool_calls is only allowed when tools are specified.",
        ),
        (
            {"parallel_tool_calls": True, "tools": []},
            "parallel_tool_calls is only allowed when tools are",
        ),
        ({"store": True}, "does not implement the parameter store true."),
        ({"min_p": 0.5}, "does not implement the parameter min_p 0.5."),
    ],
)
def test_what_openai_models_refuse(azure: Azure, gpt, change, message):
    response = azure.chat(gpt, "x", **change)
    assert response.status_code in (400, 501)
    assert message in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == next(iter(change))
    for accepted in (
        {"metadata": {}},
        {"parallel_tool_calls": False, "tools": TOOLS},
        {"store": False},
    ):
        assert azure.chat(gpt, "x", **accepted).status_code == 200
