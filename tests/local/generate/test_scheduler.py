"""Who is held, who waits, who is dropped; tool calls; whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.generate.engine import InferenceEngine  # noqa: E402 - after the skip
from maas_client.local.generate.protocol import BaseSpec, GenerationRequest, SamplingParams  # noqa: E402
from maas_client.local.generate.scheduler import BatchScheduler  # noqa: E402
from tests.local.generate.conftest import Bench, drain  # noqa: E402


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_idle_adapter_is_unloaded_and_loaded_again(phi: Bench, adapters: list[Path]) -> None:
    clock = Clock()
    host = phi.host(clock=clock)
    first, second = map(str, adapters[:2])
    host.load_adapter(first)
    clock.now = 50
    host.load_adapter(second)
    assert host.model.merged_adapter is None
    clock.now = 100
    assert not host.unload_idle(60)
    assert host.model.adapters == (second,)
    assert host.model.merged_adapter == second
    clock.now = 200
    assert host.unload_idle(60), "nothing is left: the base may go too"
    chat = phi.chat("again", adapters[0])
    host.submit(chat)
    assert drain(host)[chat.id]["tokens"] == phi.reference(host, chat, adapters[0])


def test_active_adapter_is_not_unloaded(phi: Bench, adapters: list[Path]) -> None:
    clock = Clock()
    host = phi.host(clock=clock)
    host.submit(phi.chat("hello", adapters[0]))
    clock.now = 1000
    assert not host.unload_idle(60)
    host.unload_adapter(str(adapters[0]))
    assert host.model.adapters == (str(adapters[0]),)


def test_max_rows_limits_the_batch(phi: Bench) -> None:
    host = phi.host(max_rows=2)
    for n in range(5):
        host.submit(phi.chat(f"question {n}", max_tokens=6))
    most = 0
    while host.busy:
        list(host.step())
        most = max(most, len(host._short.rows))
    assert most == 2


def test_rows_wait_for_cache_memory(phi: Bench) -> None:
    host = phi.host()
    assert host.model.cache_bytes_per_token == 2 * 2 * 2 * 32 * 4, (
        "layers, key and value, heads, width, bytes"
    )
    host.model.memory_bytes = 4 * host.model.cache_bytes_per_token * 1000
    chats = [phi.chat("x" * 200, max_tokens=5) for _ in range(4)]
    for chat in chats:
        host.submit(chat)
    most = 0
    got: list[str] = []
    while host.busy:
        got += [said["id"] for said in host.step() if said.get("done")]
        most = max(most, len(host._short.rows))
    assert most == 2
    assert got == [chat.id for chat in chats]


def test_answer_ends_at_max_tokens(phi: Bench) -> None:
    host = phi.host()
    chat = phi.chat("hello", max_tokens=3, temperature=1.0, seed=3)
    host.submit(chat)
    got = drain(host)[chat.id]
    assert got["finish_reason"] == "length"
    prompt = len(host.model.tokenizer.encode_prompt(chat))
    assert got["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 3,
        "total_tokens": prompt + 3,
    }


class Scripted:
    """Stands in for the sampler: writes what a test says. Everything else is the real thing."""

    is_greedy = False

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = iter(tokens)

    def sample(self, logits: Any) -> int:
        return next(self._tokens)


def write(bench: Bench, template: str, text: str, tools: list[Any] | None, **params: Any) -> Any:
    host = BatchScheduler(BaseSpec(str(bench.folder), template), 4)
    chat = GenerationRequest(
        "1", host_base := BaseSpec(str(bench.folder), template), None,
        [{"role": "user", "content": "hi"}], tools, SamplingParams(max_tokens=200, **params),
    )  # fmt: skip
    host.submit(chat)
    spell = host.model.tokenizer._tokenizer
    host._waiting[0].sampler = Scripted(spell.encode(text, add_special_tokens=False).ids)  # type: ignore[assignment]  # a stand-in
    assert host_base.template == template
    return drain(host)["1"]


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = '<|tool_call|>[{"name": "weather", "arguments": {"place": "Köln"}}]<|/tool_call|><|end|>'


def test_tool_call_is_parsed_and_not_sent_as_text(phi: Bench) -> None:
    got = write(phi, "phi4-mini", "Let me look. " + CALL, TOOLS)
    assert got["finish_reason"] == "tool_calls"
    assert got["text"].strip() == "Let me look."
    (call,) = got["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"place": "Köln"}'}


def test_invalid_tool_call_is_text(phi: Bench) -> None:
    got = write(phi, "phi4-mini", "<|tool_call|>no json<|/tool_call|><|end|>", TOOLS)
    assert got["finish_reason"] == "stop"
    assert "no json" in got["text"]
    assert "tool_calls" not in got


def test_control_tokens_are_not_sent(phi: Bench) -> None:
    got = write(phi, "phi3", "one<|system|> two<|end|>never", None)
    assert got["text"] == "one two"
    assert got["finish_reason"] == "stop"
    assert got["usage"]["completion_tokens"] == len(b"one two") + 2


def test_stop_strings_end_the_answer(phi: Bench) -> None:
    got = write(phi, "phi3", "one two three four<|end|>", None, stop=("three", "xyz"))
    assert got["text"] == "one two "
    assert got["finish_reason"] == "stop"


def test_folder_with_a_whole_model_is_used_as_base(phi: Bench, window: Bench) -> None:
    engine = InferenceEngine(idle_s=60, max_rows=2)
    base = {"folder": str(phi.folder), "template": "phi3"}
    asked = {"op": "chat", "id": "1", "base": base, "adapter": str(window.folder)}
    params = {"temperature": 0, "max_tokens": 20}
    messages = [{"role": "user", "content": "which one are you?"}]
    assert list(engine.handle({**asked, "messages": messages, "params": params})) == []
    text = ""
    while engine.busy:
        text += "".join(said.get("delta", "") for said in engine.step())
    host = window.host()
    chat = window.chat("which one are you?", max_tokens=20)
    host.submit(chat)
    assert text == drain(host)[chat.id]["text"]
