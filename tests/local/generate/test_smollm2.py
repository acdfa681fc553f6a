"""Real weights: SmolLM2-135M answers as transformers.generate does. Runs where it has been pulled."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from maas_client._settings import Settings  # noqa: E402 - after the skip
from maas_client.local import bases  # noqa: E402
from maas_client.local.generate.protocol import BaseSpec  # noqa: E402
from tests.local.generate.conftest import Bench, drain  # noqa: E402
from tests.shared_data import SHARED  # noqa: E402

GSM8K = SHARED / "data" / "gsm8k_chat.jsonl"
QUESTIONS = ("What is the capital of France?", "Write one sentence about foxes.", "Count to five.")


@pytest.fixture(scope="module")
def smollm2() -> Bench:
    place = Settings.load().cache_path()
    if bases.SMOLLM2 not in bases.list_available(place):
        pytest.skip("smollm2-135m has not been pulled")
    found = bases.resolve_base(bases.SMOLLM2, bases.SMOLLM2, place)
    bench = Bench(Path(found.folder))
    bench.base = BaseSpec(found.folder, found.template)
    return bench


def questions() -> list[str]:
    if not GSM8K.exists():
        return list(QUESTIONS)
    with GSM8K.open() as file:
        rows = [json.loads(line)["messages"] for line in islice(file, 5)]
    return [*QUESTIONS, *(next(m["content"] for m in r if m["role"] == "user") for r in rows)]


@pytest.mark.slow
def test_eight_batched_answers_match_transformers(smollm2: Bench) -> None:
    host = smollm2.host()
    chats = [smollm2.chat(text, max_tokens=20) for text in questions()]
    for chat in chats:
        host.submit(chat)
    got = drain(host)
    for chat in chats:
        assert got[chat.id]["tokens"] == smollm2.reference(host, chat), chat.messages
