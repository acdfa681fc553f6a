"""Chat on an endpoint: both dialects, exact stream frames, errors in the format of each route."""

from __future__ import annotations

import json

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
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 2**70}, "max_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"seed": "x"}, "seed"),
    ({"n": 2}, "n"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"logprobs": True}, "logprobs"),
    ({"tools": "x"}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
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
