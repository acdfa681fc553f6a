"""The scheduler: loading and unloading, waiting, limits, tool calls, whole models."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.generate.adapter_linear import MultiAdapterLinear  # noqa: E402 - after the skip
from maas_client.local.generate.engine import InferenceEngine  # noqa: E402
from maas_client.local.generate.protocol import BaseSpec, GenerationRequest, SamplingParams  # noqa: E402
from maas_client.local.generate.scheduler import BatchScheduler  # noqa: E402
from tests.local.generate.conftest import BaseUnderTest, run_until_done  # noqa: E402


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_idle_adapter_is_unloaded_and_loaded_again(
    phi: BaseUnderTest, adapters: list[Path]
) -> None:
    clock = Clock()
    scheduler = phi.scheduler(clock=clock)
    first, second = map(str, adapters[:2])
    scheduler.load_adapter(first)
    clock.now = 50
    scheduler.load_adapter(second)
    assert scheduler.model.merged_adapter is None
    clock.now = 100
    assert not scheduler.unload_idle(60)
    assert scheduler.model.adapters == (second,)
    assert scheduler.model.merged_adapter == second
    clock.now = 200
    assert scheduler.unload_idle(60), "nothing is left: the base may go too"
    chat = phi.chat("again", adapters[0])
    scheduler.submit(chat)
    assert run_until_done(scheduler)[chat.id]["tokens"] == phi.reference(
        scheduler, chat, adapters[0]
    )


@pytest.mark.parametrize("precision", ["auto", "int8"])
@pytest.mark.parametrize("beside_base", [False, True])
def test_adapter_that_was_replaced_while_it_was_unloaded_answers_with_its_new_weights(
    phi: BaseUnderTest, adapters: list[Path], tmp_path: Path, precision: str, beside_base: bool
) -> None:
    scheduler = BatchScheduler(replace(phi.base, precision=precision), max_rows=2)
    folder = tmp_path / "adapter"
    texts = []
    if beside_base:
        scheduler.load_adapter(None)
    for adapter in (folder, folder, adapters[1]):
        if adapter == folder:
            shutil.copytree(adapters[len(texts)], folder)
        chat = phi.chat("What is a fox?", adapter)
        scheduler.submit(chat)
        texts.append(run_until_done(scheduler)[chat.id]["text"])
        scheduler.unload_adapter(str(adapter))
        shutil.rmtree(folder, ignore_errors=True)
    assert texts[0] != texts[1] == texts[2]


def test_the_weights_of_an_unused_base_are_not_merged_again(
    phi: BaseUnderTest, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = phi.scheduler()
    scheduler.load_adapter(str(adapters[0]))
    monkeypatch.setattr(MultiAdapterLinear, "load", lambda *_: pytest.fail("weights were read"))
    scheduler.unload_adapter(str(adapters[0]))
    assert scheduler.unload_idle(60)


def test_active_adapter_is_not_unloaded(phi: BaseUnderTest, adapters: list[Path]) -> None:
    clock = Clock()
    scheduler = phi.scheduler(clock=clock)
    scheduler.submit(phi.chat("hello", adapters[0]))
    clock.now = 1000
    assert not scheduler.unload_idle(60)
    scheduler.unload_adapter(str(adapters[0]))
    assert scheduler.model.adapters == (str(adapters[0]),)


def test_max_rows_limits_the_batch(phi: BaseUnderTest) -> None:
    scheduler = phi.scheduler(max_rows=2)
    for n in range(5):
        scheduler.submit(phi.chat(f"question {n}", max_tokens=6))
    max_active = 0
    while scheduler.busy:
        list(scheduler.step())
        max_active = max(max_active, len(scheduler._short.rows))
    assert max_active == 2


def test_rows_wait_for_cache_memory(phi: BaseUnderTest) -> None:
    scheduler = phi.scheduler()
    assert scheduler.model.cache_bytes_per_token == 2 * 2 * 2 * 32 * 4, (
        "layers, key and value, heads, width, bytes"
    )
    scheduler.model.memory_bytes = 4 * scheduler.model.cache_bytes_per_token * 1000
    chats = [phi.chat("x" * 200, max_tokens=5) for _ in range(4)]
    for chat in chats:
        scheduler.submit(chat)
    max_active = 0
    result: list[str] = []
    while scheduler.busy:
        result += [reply["id"] for reply in scheduler.step() if reply.get("done")]
        max_active = max(max_active, len(scheduler._short.rows))
    assert max_active == 2
    assert result == [chat.id for chat in chats]


def test_answer_ends_at_max_tokens(phi: BaseUnderTest) -> None:
    scheduler = phi.scheduler()
    chat = phi.chat("hello", max_tokens=3, temperature=1.0, seed=3)
    scheduler.submit(chat)
    result = run_until_done(scheduler)[chat.id]
    assert result["finish_reason"] == "length"
    prompt = len(scheduler.model.tokenizer.encode_prompt(chat))
    assert result["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 3,
        "total_tokens": prompt + 3,
        "cached_tokens": 0,
    }


class Scripted:
    """A sampler that returns given tokens."""

    is_greedy = False

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = iter(tokens)

    def sample(self, logits: Any) -> int:
        return next(self._tokens)


def write(
    base_under_test: BaseUnderTest, template: str, text: str, tools: list[Any] | None, **params: Any
) -> Any:
    scheduler = BatchScheduler(BaseSpec(str(base_under_test.folder), template), 4)
    chat = GenerationRequest(
        "1", base_spec := BaseSpec(str(base_under_test.folder), template), None,
        [{"role": "user", "content": "hi"}], tools, SamplingParams(max_tokens=200, **params),
    )  # fmt: skip
    scheduler.submit(chat)
    spell = scheduler.model.tokenizer._tokenizer
    scheduler._waiting[0].sampler = Scripted(spell.encode(text, add_special_tokens=False).ids)  # type: ignore[assignment]  # a stand-in
    assert base_spec.template == template
    return run_until_done(scheduler)["1"]


TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = '<|tool_call|>[{"name": "weather", "arguments": {"place": "Köln"}}]<|/tool_call|><|end|>'


def test_tool_call_is_parsed_and_not_sent_as_text(phi: BaseUnderTest) -> None:
    result = write(phi, "phi4-mini", "Let me look. " + CALL, TOOLS)
    assert result["finish_reason"] == "tool_calls"
    assert result["text"].strip() == "Let me look."
    (call,) = result["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"place": "Köln"}'}


def test_invalid_tool_call_is_text(phi: BaseUnderTest) -> None:
    result = write(phi, "phi4-mini", "<|tool_call|>no json<|/tool_call|><|end|>", TOOLS)
    assert result["finish_reason"] == "stop"
    assert "no json" in result["text"]
    assert "tool_calls" not in result


def test_control_tokens_are_not_sent(phi: BaseUnderTest) -> None:
    result = write(phi, "phi3", "one<|system|> two<|end|>never", None)
    assert result["text"] == "one two"
    assert result["finish_reason"] == "stop"
    assert result["usage"]["completion_tokens"] == len(b"one two") + 2


def test_stop_strings_end_the_answer(phi: BaseUnderTest) -> None:
    result = write(phi, "phi3", "one two three four<|end|>", None, stop=("three", "xyz"))
    assert result["text"] == "one two "
    assert result["finish_reason"] == "stop"


def test_folder_with_a_whole_model_is_used_as_base(
    phi: BaseUnderTest, window: BaseUnderTest
) -> None:
    engine = InferenceEngine(idle_s=60, max_rows=2)
    base = {"folder": str(phi.folder), "template": "phi3"}
    message = {"op": "chat", "id": "1", "base": base, "adapter": str(window.folder)}
    params = {"temperature": 0, "max_tokens": 20}
    messages = [{"role": "user", "content": "which one are you?"}]
    assert list(engine.handle({**message, "messages": messages, "params": params})) == []
    text = ""
    while engine.busy:
        text += "".join(reply.get("delta", "") for reply in engine.step())
    scheduler = window.scheduler()
    chat = window.chat("which one are you?", max_tokens=20)
    scheduler.submit(chat)
    assert text == run_until_done(scheduler)[chat.id]["text"]


def test_first_token_is_sent_before_the_prompt_is_remembered(phi: BaseUnderTest) -> None:
    scheduler = phi.scheduler()
    scheduler.submit(phi.chat("hello", max_tokens=1))
    replies = scheduler.step()
    next(replies)
    assert scheduler._prefixes.size_bytes == 0
    list(replies)
    assert scheduler._prefixes.size_bytes > 0
