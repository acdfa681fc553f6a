"""Chat on an endpoint: both dialects, frames to the byte, refusals in each route's words."""

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
    model = "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1"  # its template takes tools
    details = {"model": {"jobInputType": "mlflow_model", "uri": model}}
    assert azure.job("chatty", rows(), details=details) == "Completed", azure.error("chatty")
    return azure.deploy("chatty", azure.model_id("chatty"))


def frames(answer) -> list:
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    for line in blocks:  # nothing but `data: ` lines: azure-ai-inference raises on anything else
        assert line.startswith("data: ")
        assert "\n" not in line
        assert "\r" not in line
    assert blocks.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_a_whole_answer(azure: Azure, uri):
    answer = azure.chat(uri, "what is 3 plus 3")
    body = answer.json()
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
    assert answer.headers["x-maas-simulated"] == "true"


def test_a_streamed_answer_is_the_whole_one(azure: Azure, uri):
    found = frames(azure.chat(uri, "what is 3 plus 3", stream=True))
    assert {f["object"] for f in found} == {"chat.completion.chunk"}
    assert len({f["id"] for f in found}) == 1
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(f["choices"][0]["delta"].get("content", "") for f in found)
    assert text == "it is 6, dear friend number 3"
    assert [f["choices"][0]["finish_reason"] for f in found][-1] == "stop"
    assert all(f["choices"][0]["finish_reason"] is None for f in found[:-1])


def test_usage_in_a_stream(azure: Azure, uri):
    found = frames(
        azure.chat(uri, "what is 3 plus 3", stream=True, stream_options={"include_usage": True})
    )
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] > 0


def test_the_inference_route(azure: Azure, uri):
    body = {"messages": [{"role": "user", "content": "what is 3 plus 3"}], "max_tokens": 2}
    answer = azure.http.post(
        f"{uri}/chat/completions?api-version=2024-05-01-preview",
        json=body,
        headers={"api-key": "K"},
    )
    assert answer.json()["choices"][0]["message"]["content"] == "it is"
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    info = azure.http.get(f"{uri}/info?api-version=2024-05-01-preview").json()
    assert info["model_type"] == "chat-completion"
    assert "simulated" in info["model_provider_name"]
    assert azure.http.get(f"{uri}/v1/models").json()["data"][0]["id"] == info["model_name"]


def test_tools(azure: Azure, uri):
    body = azure.chat(uri, "weather in Bern please", tools=TOOLS).json()["choices"][0]
    assert body["finish_reason"] == "tool_calls"
    assert body["message"]["tool_calls"][0]["function"] == CALL["function"]
    assert body["message"]["content"] is None
    found = frames(azure.chat(uri, "weather in Bern please", tools=TOOLS, stream=True))
    calls = [
        f["choices"][0]["delta"]["tool_calls"][0]
        for f in found
        if "tool_calls" in f["choices"][0]["delta"]
    ]
    assert calls[0]["index"] == 0
    assert calls[0]["function"] == CALL["function"]


def test_stop_and_parts(azure: Azure, uri):
    body = azure.chat(uri, "what is 3 plus 3", stop=["dear"]).json()["choices"][0]
    assert body["message"]["content"] == "it is 6, "
    parts = [{"type": "text", "text": "what is "}, {"type": "text", "text": "3 plus 3"}]
    answer = azure.http.post(
        f"{uri}/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]}
    )
    assert answer.json()["choices"][0]["message"]["content"].startswith("it is 6")


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
def test_what_cannot_be_is_refused_by_name(azure: Azure, uri, change, name):
    body = {"messages": [{"role": "user", "content": "x"}], **change}
    openai = azure.http.post(f"{uri}/v1/chat/completions", json=body)
    assert (openai.status_code, openai.json()["error"]["param"]) == (400, name)
    inference = azure.http.post(f"{uri}/chat/completions", json=body)
    assert (inference.status_code, inference.json()["code"]) == (422, "parameter_not_supported")
    assert inference.json()["detail"]["loc"] == ["body", name]


@pytest.mark.parametrize("told", ["drop", "pass-through", "DROP"])
def test_extra_parameters_may_be_let_by(azure: Azure, uri, told):
    body = {"messages": [{"role": "user", "content": "x"}], "safe_prompt": True}
    answer = azure.http.post(
        f"{uri}/chat/completions", json=body, headers={"extra-parameters": told}
    )
    assert answer.status_code == 200
    answer = azure.http.post(
        f"{uri}/v1/chat/completions", json=body, headers={"extra-parameters": told}
    )
    assert answer.status_code == 400


def test_a_refused_stream_is_no_200(azure: Azure, uri):
    answer = azure.chat(uri, "x", stream=True, temperature=9)
    assert answer.status_code == 400


def test_unknown_headers_are_never_refused(azure: Azure, uri):
    body = {"messages": [{"role": "user", "content": "x"}]}
    headers = {"x-stainless-retry-count": "0", "x-brand-new": "1"}
    assert (
        azure.http.post(f"{uri}/v1/chat/completions", json=body, headers=headers).status_code == 200
    )
