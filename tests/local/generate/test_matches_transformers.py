"""Greedy answers equal those of transformers token for token: alone, batched, with adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.generate.architecture import load_architecture  # noqa: E402 - after the skip
from maas_client.local.generate.cache import KeyValueCache  # noqa: E402
from maas_client.local.generate.model import InferenceModel  # noqa: E402
from tests.local.generate.conftest import LLAMA, BaseUnderTest, make_base, run_until_done  # noqa: E402

TEXTS = ["a", "What is the weather on the island?", "Köln 🦆 " * 9, "tell me"]


@pytest.mark.parametrize("name", ["phi", "llama", "window", "long"])
def test_single_answer_matches_transformers(name: str, request: pytest.FixtureRequest) -> None:
    base_under_test: BaseUnderTest = request.getfixturevalue(name)
    scheduler = base_under_test.scheduler()
    for text in TEXTS[1:]:
        chat = base_under_test.chat(text, max_tokens=60)
        scheduler.submit(chat)
        assert run_until_done(scheduler)[chat.id]["tokens"] == base_under_test.reference(
            scheduler, chat
        )


@pytest.mark.parametrize("name", ["phi", "llama", "window", "long"])
def test_batched_answers_match_transformers(name: str, request: pytest.FixtureRequest) -> None:
    base_under_test: BaseUnderTest = request.getfixturevalue(name)
    scheduler = base_under_test.scheduler(max_rows=3)
    chats = [
        base_under_test.chat(text, max_tokens=9 + 11 * index)
        for index, text in enumerate(TEXTS * 2)
    ]
    for chat in chats:
        scheduler.submit(chat)
    results = run_until_done(scheduler)
    for chat in chats:
        assert results[chat.id]["tokens"] == base_under_test.reference(scheduler, chat), (
            chat.messages
        )


VARIANTS: dict[str, dict[str, Any]] = {
    "grouped keys": {**LLAMA, "num_key_value_heads": 2},
    "biases": {**LLAMA, "attention_bias": True, "mlp_bias": True},
    "wide heads": {**LLAMA, "head_dim": 48},
    "gelu": {**LLAMA, "hidden_act": "gelu"},
    "linear": {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "yarn": {**LLAMA, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "llama3": {
        **LLAMA,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "partial rotary": {"partial_rotary_factor": 0.75, "rope_theta": 500.0},
    "mistral": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 12},
    "qwen2": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
    "qwen2 with a window": {
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True,
        "sliding_window": 12, "max_window_layers": 0,
    },
    "qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "head_dim": 40},
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_of_each_architecture_match_transformers(name: str, tmp_path: Path) -> None:
    base_under_test = BaseUnderTest(make_base(tmp_path / "base", **VARIANTS[name]))
    theirs = base_under_test._theirs(None)
    for parameter in theirs.parameters():
        if parameter.ndim == 1:  # biases of zero and norms of one would hide a mistake
            parameter.data += 0.2 * torch.randn_like(parameter)
    theirs.save_pretrained(base_under_test.folder)
    model = InferenceModel(base_under_test.base)
    model.set_merged_adapter(None)
    tokens, cache = [7 * n % 250 for n in range(40)], KeyValueCache()
    actual = [
        model.forward([tokens[a:b]], [list(range(a, b))], cache, [None])[0]
        for a, b in ((0, 20), (20, 39), (39, 40))
    ]
    with torch.inference_mode():
        expected = theirs(torch.tensor([tokens])).logits[0, [19, 38, 39]]
    torch.testing.assert_close(torch.stack(actual), expected, rtol=1e-3, atol=2e-4)


def test_last_block_computes_the_last_token_of_a_prompt_only(
    phi: BaseUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = InferenceModel(phi.base)
    model.set_merged_adapter(None)
    *_, last_down, _ = model._network.products
    multiply, widths = last_down._matmul, []
    assert multiply is not None

    def count(x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        widths.append(x.shape[1])
        return multiply(x, bias)

    monkeypatch.setattr(last_down, "_matmul", count)
    tokens = [5, 17, 42, 5, 99]
    logits = model.forward([tokens], [list(range(5))], KeyValueCache(), [None])
    expected = model._network.logits(torch.tensor(tokens))
    torch.testing.assert_close(logits[0], expected[-1], rtol=1e-4, atol=1e-5)
    assert widths == [1, 5]


def test_sizes_are_those_that_transformers_reads(llama: BaseUnderTest) -> None:
    """A complete configuration is read without transformers, with the same result."""
    from transformers import AutoConfig

    from maas_client.local.generate import architecture

    values = architecture._read_config(llama.folder)
    assert architecture._is_complete(values)
    theirs = AutoConfig.from_pretrained(llama.folder).to_dict()
    actual = load_architecture(llama.folder)
    assert (actual.hidden_size, actual.kv_heads) == (128, 1)
    assert actual.rope_theta == theirs["rope_parameters"]["rope_theta"]
    assert actual.tied is theirs["tie_word_embeddings"]
    assert actual.norm_epsilon == theirs["rms_norm_eps"]


def test_prompts_around_the_longrope_threshold_match_transformers(long: BaseUnderTest) -> None:
    scheduler = long.scheduler()
    chats = [long.chat("x" * n, max_tokens=20) for n in (85, 60, 70, 100)]
    for chat in chats:
        scheduler.submit(chat)
    results = run_until_done(scheduler)
    for chat in chats:
        assert results[chat.id]["tokens"] == long.reference(scheduler, chat)


def test_chunked_prefill_matches_transformers(
    phi: BaseUnderTest, window: BaseUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maas_client.local.generate.batch.PREFILL_CHUNK", 17)
    for base_under_test in (phi, window):
        scheduler = base_under_test.scheduler()
        chat = base_under_test.chat("a long question, " * 6)
        scheduler.submit(chat)
        assert run_until_done(scheduler)[chat.id]["tokens"] == base_under_test.reference(
            scheduler, chat
        )


@pytest.mark.parametrize("name", ["phi", "llama", "window", "long"])
def test_joint_prefill_matches_transformers(
    name: str, request: pytest.FixtureRequest, adapters: list[Path]
) -> None:
    base_under_test: BaseUnderTest = request.getfixturevalue(name)
    scheduler = base_under_test.scheduler(cache_bytes=0)  # prompts wait for what they share
    adapter_list = [None, *adapters[:2], None] if name == "phi" else [None] * 4
    chats = [
        base_under_test.chat("word " * (9 - index), adapter, max_tokens=1 + 12 * index)
        for index, adapter in enumerate(adapter_list)
    ]
    for chat in chats:
        scheduler.submit(chat)
    first = list(scheduler.step())
    assert len(scheduler._short.rows) == 3, "all were read in one step, and one has ended"
    results = run_until_done(scheduler)
    done = {reply["id"] for reply in first if reply.get("done")}
    assert done == {chats[0].id}
    for chat, adapter in list(zip(chats, adapter_list, strict=True))[1:]:
        assert results[chat.id]["tokens"] == base_under_test.reference(scheduler, chat, adapter)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["lora", "dora", "rslora"])
def test_single_adapter_is_merged_and_matches_peft(
    phi: BaseUnderTest, adapters: list[Path], which: int
) -> None:
    scheduler = phi.scheduler()
    chat = phi.chat(TEXTS[1], adapters[which])
    scheduler.submit(chat)
    assert scheduler.model.merged_adapter == str(adapters[which])
    answer = run_until_done(scheduler)[chat.id]["tokens"]
    assert answer == phi.reference(scheduler, chat, adapters[which])
    assert answer != phi.reference(scheduler, chat), "the adapter changes nothing: no test"


def test_adapters_in_one_batch_match_peft(phi: BaseUnderTest, adapters: list[Path]) -> None:
    scheduler = phi.scheduler()
    adapter_list = [None, *adapters, None, *reversed(adapters)]
    chats = [
        phi.chat(TEXTS[index % len(TEXTS)], adapter, max_tokens=10 + 5 * index)
        for index, adapter in enumerate(adapter_list)
    ]
    for chat in chats:
        scheduler.submit(chat)
    assert scheduler.model.merged_adapter is None
    results = run_until_done(scheduler)
    for chat, adapter in zip(chats, adapter_list, strict=True):
        assert results[chat.id]["tokens"] == phi.reference(scheduler, chat, adapter), chat


def test_adapter_added_during_decoding_matches_peft(
    phi: BaseUnderTest, adapters: list[Path]
) -> None:
    scheduler = phi.scheduler()
    first, second = phi.chat(TEXTS[1], adapters[0]), phi.chat(TEXTS[2], adapters[1])
    scheduler.submit(first)
    for _ in range(5):
        list(scheduler.step())
    scheduler.submit(second)
    results = run_until_done(scheduler)
    assert len(results[first.id]["tokens"]) > 5
    scheduler.unload_adapter(str(adapters[0]))
    assert scheduler.model.merged_adapter == str(adapters[1]), "alone again, merged again"
    third = phi.chat(TEXTS[2], adapters[1])
    scheduler.submit(third)
    again = run_until_done(scheduler)[third.id]["tokens"]
    assert again == results[second.id]["tokens"] == phi.reference(scheduler, second, adapters[1])
