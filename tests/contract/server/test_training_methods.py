"""A job with every method and every engine through the public API: train, deploy, chat."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer, serve
from tests.contract.server.conftest import chats

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

ROWS, BATCH = 16, 4
FSDP = {"fsdp": "full_shard", "processes": "2"}
ZERO = {"apply_deepspeed": "true", "deepspeed_stage": "3", "processes": "2"}


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="peft", base="tiny", threads=1) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "extra", "placement"),
    [
        pytest.param("LoRA", {}, None, id="LoRA"),
        pytest.param("QLoRA", {}, None, id="QLoRA", marks=needs("bitsandbytes")),
        pytest.param("Full", {}, None, id="Full"),
        pytest.param("rsLoRA", {"processes": "2"}, "2 processes (DDP)", id="rsLoRA-ddp"),
        pytest.param("DoRA", FSDP, "2 processes (FSDP full_shard)", id="DoRA-fsdp"),
        pytest.param(
            "LoRA",
            ZERO,
            "2 processes (DeepSpeed ZeRO-3)",
            id="LoRA-zero3",
            marks=needs("deepspeed"),
        ),
    ],
)
def test_train_deploy_and_chat(
    server: LocalServer, tmp_path: Path, method: str, extra: dict[str, Any], placement: str | None
) -> None:
    data, held_out = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    data.write_bytes(chats(ROWS))
    held_out.write_bytes(chats(20)[-400:].split(b"\n", 1)[1])
    per_process = BATCH // int(extra.get("processes", 1))
    with server.client() as client:
        job = client.jobs.create(
            model="Phi-3-mini",
            training_data=data,
            validation_data=held_out,
            method=method,
            hyperparameters={
                "epochs": 3,
                "learning_rate": 1e-3,
                "batch_size": per_process,
                "extra": extra,
            },
        )
        messages: list[maas.JobEvent] = []
        done = client.jobs.wait(job, timeout=300, on_event=messages.append)
        assert done.succeeded
        losses = {e.step: e.metrics["train_loss"] for e in messages if "train_loss" in e.metrics}
        assert sorted(losses) == list(range(1, 1 + 3 * ROWS // BATCH))
        checks = {e.step: e.metrics["valid_loss"] for e in messages if "valid_loss" in e.metrics}
        assert checks[max(checks)] < checks[0], "the base model is step 0"
        reply = [e.message for e in messages]
        assert (f"Runs in {placement}." in reply) == (placement is not None)
        with client.deployments.create(name="asked", model=done) as deployment:
            response = client.chat.complete(
                deployment, [{"role": "user", "content": "hi"}], max_tokens=4, temperature=0
            )
        assert response.usage is not None
        assert response.usage.completion_tokens >= 1
