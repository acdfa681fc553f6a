"""Real weights: SmolLM2-135M answers like transformers.generate. Skipped unless it was pulled."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from maas_client._settings import Settings  # noqa: E402 - after the skip
from maas_client.local import bases  # noqa: E402
from maas_client.local.generate.model import InferenceModel  # noqa: E402
from maas_client.local.generate.protocol import BaseSpec  # noqa: E402
from tests.local.generate.conftest import BaseUnderTest, run_until_done  # noqa: E402
from tests.shared_data import SHARED  # noqa: E402

GSM8K = SHARED / "data" / "gsm8k_chat.jsonl"
QUESTIONS = ("What is the capital of France?", "Write one sentence about foxes.", "Count to five.")


@pytest.fixture(scope="module")
def smollm2() -> BaseUnderTest:
    cache = Settings.load().cache_path()
    if bases.SMOLLM2 not in bases.list_available(cache):
        pytest.skip("smollm2-135m has not been pulled")
    base = bases.resolve_base(bases.SMOLLM2, bases.SMOLLM2, cache)
    base_under_test = BaseUnderTest(Path(base.folder))
    base_under_test.base = BaseSpec(base.folder, base.template)
    return base_under_test


def questions() -> list[str]:
    if not GSM8K.exists():
        return list(QUESTIONS)
    with GSM8K.open() as file:
        rows = [json.loads(line)["messages"] for line in islice(file, 5)]
    return [*QUESTIONS, *(next(m["content"] for m in r if m["role"] == "user") for r in rows)]


@pytest.mark.slow
def test_eight_batched_answers_match_transformers(smollm2: BaseUnderTest) -> None:
    scheduler = smollm2.scheduler()
    chats = [smollm2.chat(text, max_tokens=10) for text in questions()]
    for chat in chats:
        scheduler.submit(chat)
    results = run_until_done(scheduler)
    for chat in chats:
        assert results[chat.id]["tokens"] == smollm2.reference(scheduler, chat), chat.messages


@pytest.mark.slow
def test_int8_answers_like_float32(smollm2: BaseUnderTest) -> None:
    model = InferenceModel(replace(smollm2.base, precision="int8"))
    assert model.divergence is not None
    assert model.divergence.nats < 0.01
    assert model.divergence.same >= 0.93 * model.divergence.tokens
