"""Greedy answers are transformers' own, token for token: alone, in a batch, with every adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.local.generate.conftest import Bench, drain

TEXTS = ["a", "What is the weather on the island?", "Köln 🦆 " * 9, "tell me"]


@pytest.mark.parametrize("name", ["phi", "llama", "window", "long"])
def test_single_answer_matches_transformers(name: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(name)
    host = bench.host()
    for text in TEXTS[1:]:
        chat = bench.chat(text, max_tokens=60)
        host.submit(chat)
        assert drain(host)[chat.id]["tokens"] == bench.reference(host, chat)


@pytest.mark.parametrize("name", ["phi", "llama", "window", "long"])
def test_batched_answers_match_transformers(name: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(name)
    host = bench.host(max_rows=3)
    chats = [bench.chat(text, max_tokens=9 + 11 * at) for at, text in enumerate(TEXTS * 2)]
    for chat in chats:
        host.submit(chat)
    got = drain(host)
    for chat in chats:
        assert got[chat.id]["tokens"] == bench.reference(host, chat), chat.messages


def test_prompts_around_the_longrope_threshold_match_transformers(long: Bench) -> None:
    host = long.host()
    chats = [long.chat("x" * n, max_tokens=20) for n in (85, 60, 70, 100)]
    for chat in chats:
        host.submit(chat)
    got = drain(host)
    for chat in chats:
        assert got[chat.id]["tokens"] == long.reference(host, chat)


def test_chunked_prefill_matches_transformers(
    phi: Bench, window: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maas_client.local.generate.batch.PREFILL_CHUNK", 17)
    for bench in (phi, window):
        host = bench.host()
        chat = bench.chat("a long question, " * 6)
        host.submit(chat)
        assert drain(host)[chat.id]["tokens"] == bench.reference(host, chat)


@pytest.mark.parametrize("name", ["phi", "llama", "window", "long"])
def test_joint_prefill_matches_transformers(
    name: str, request: pytest.FixtureRequest, adapters: list[Path]
) -> None:
    bench: Bench = request.getfixturevalue(name)
    host = bench.host()
    asked = [None, *adapters[:2], None] if name == "phi" else [None] * 4
    chats = [
        bench.chat("word " * (9 - at), adapter, max_tokens=1 + 12 * at)
        for at, adapter in enumerate(asked)
    ]
    for chat in chats:
        host.submit(chat)
    first = list(host.step())
    assert len(host._short.rows) == 3, "all were read in one step, and one has ended"
    got = drain(host)
    done = {said["id"] for said in first if said.get("done")}
    assert done == {chats[0].id}
    for chat, adapter in list(zip(chats, asked, strict=True))[1:]:
        assert got[chat.id]["tokens"] == bench.reference(host, chat, adapter)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["lora", "dora", "rslora"])
def test_single_adapter_is_merged_and_matches_peft(
    phi: Bench, adapters: list[Path], which: int
) -> None:
    host = phi.host()
    chat = phi.chat(TEXTS[1], adapters[which])
    host.submit(chat)
    assert host.model.merged_adapter == str(adapters[which])
    answer = drain(host)[chat.id]["tokens"]
    assert answer == phi.reference(host, chat, adapters[which])
    assert answer != phi.reference(host, chat), "the adapter changes nothing: no test"


def test_adapters_in_one_batch_match_peft(phi: Bench, adapters: list[Path]) -> None:
    host = phi.host()
    asked = [None, *adapters, None, *reversed(adapters)]
    chats = [
        phi.chat(TEXTS[at % len(TEXTS)], adapter, max_tokens=10 + 5 * at)
        for at, adapter in enumerate(asked)
    ]
    for chat in chats:
        host.submit(chat)
    assert host.model.merged_adapter is None
    got = drain(host)
    for chat, adapter in zip(chats, asked, strict=True):
        assert got[chat.id]["tokens"] == phi.reference(host, chat, adapter), chat


def test_adapter_added_during_decoding_matches_peft(phi: Bench, adapters: list[Path]) -> None:
    host = phi.host()
    first, second = phi.chat(TEXTS[1], adapters[0]), phi.chat(TEXTS[2], adapters[1])
    host.submit(first)
    for _ in range(5):
        list(host.step())
    host.submit(second)
    got = drain(host)
    assert len(got[first.id]["tokens"]) > 5
    host.unload_adapter(str(adapters[0]))
    assert host.model.merged_adapter == str(adapters[1]), "alone again, merged again"
    third = phi.chat(TEXTS[2], adapters[1])
    host.submit(third)
    again = drain(host)[third.id]["tokens"]
    assert again == got[second.id]["tokens"] == phi.reference(host, second, adapters[1])
