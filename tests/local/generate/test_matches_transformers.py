"""Greedy answers equal those of transformers token for token: alone, batched, with adapters."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.local.generate.conftest import BaseUnderTest, run_until_done

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
    scheduler = base_under_test.scheduler()
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
