"""Interactive training without a process: checks of checkpoints, the queue, the points of curves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from maas_client.local.config import ServerConfig
from maas_client.local.machine.child_processes import ProcessPool
from maas_client.local.resources.errors import ApiError
from maas_client.local.sessions import live_session
from maas_client.local.sessions.checks import check_resume
from maas_client.local.sessions.service import Sessions
from maas_client.local.sessions.step_history import GradientSum, step_points
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import Store

SAVED: dict[str, Any] = {"base": "tiny", "lora_config": {"rank": 8, "alpha": 32.0}}


@pytest.mark.parametrize(
    ("base", "lora", "target", "message"),
    [
        (
            "smollm2-135m",
            {},
            "base_model",
            "belongs to the base tiny, and the session runs on smol",
        ),
        ("tiny", {"rank": 4}, "lora_config.rank", "rank 8, and the session 4"),
        ("tiny", {"alpha": 16.0}, "lora_config.alpha", "alpha 32, and the session 16"),
    ],
)
def test_a_checkpoint_of_another_base_or_adapter_is_refused(
    base: str, lora: dict[str, Any], target: str, message: str
) -> None:
    with pytest.raises(ApiError, match=message) as refused:
        check_resume(SAVED, {"name": base}, {**SAVED["lora_config"], **lora})
    assert (refused.value.status, refused.value.target) == (400, target)


def test_a_checkpoint_of_the_same_base_and_adapter_is_accepted() -> None:
    check_resume(SAVED, {"name": "tiny"}, {"rank": 8, "alpha": 32, "seed": 5})


def test_a_step_has_the_mean_loss_of_all_batches_since_the_last_one() -> None:
    adam = {"learning_rate": 0.5}
    result = {"step_count": 7, "grad_norm": 2.0}
    batches = GradientSum()
    for loss, tokens in ((6.0, 2), (3.0, 1)):
        batches = batches.add({"total_loss": loss, "loss_tokens": tokens})
    points = step_points(batches, adam, result, "2026-01-01T00:00:00Z")
    assert {point.name: point.value for point in points} == {
        "train_loss": 3.0,
        "grad_norm": 2.0,
        "learning_rate": 0.5,
    }
    assert {point.step for point in points} == {7}
    without_tokens = step_points(GradientSum(), adam, result, "2026-01-01T00:00:00Z")
    assert [point.name for point in without_tokens] == ["grad_norm", "learning_rate"]


class QueuedSession:
    """A session that waits for others to end, so that its queue can be looked at."""

    def __init__(self, sessions: Sessions, session_id: str) -> None:
        self.sessions, self.id = sessions, session_id
        self.is_read, self.release = threading.Event(), threading.Event()

    def send(self, op: str, read: Callable[[], dict[str, Any]]) -> asyncio.Future[dict[str, Any]]:
        return asyncio.ensure_future(self.sessions.train("local", self.id, op, read))

    def step(self) -> asyncio.Future[dict[str, Any]]:
        return asyncio.ensure_future(self.sessions.optim_step("local", self.id, {}))

    async def send_slowly(self, op: str) -> asyncio.Future[dict[str, Any]]:
        """Send a batch whose check takes until ``release``."""

        def read() -> dict[str, Any]:
            self.is_read.set()
            assert self.release.wait(30)
            return batch()

        sent = self.send(op, read)
        assert await asyncio.to_thread(self.is_read.wait, 30)
        return sent


def batch(token: int = 5) -> dict[str, Any]:
    inputs = {"target_tokens": {"data": [token, 6]}, "weights": {"data": [0.0, 1.0]}}
    datum = {"model_input": {"chunks": [{"tokens": [4, 5]}]}, "loss_fn_inputs": inputs}
    return {"data": [datum], "loss_fn": "cross_entropy"}


@pytest.fixture
async def queued(tmp_path: Path) -> AsyncIterator[QueuedSession]:
    (tmp_path / "config.json").write_text('{"vocab_size": 9, "hidden_size": 8}')
    store, config = Store(tmp_path / "facts.db", durable=False), ServerConfig(tmp_path)
    pool = ProcessPool(tmp_path, 1, "cpu", warm=False)
    base = {"name": "tiny", "folder": str(tmp_path)}
    sessions = Sessions(store, FileStore(tmp_path), pool, config, lambda _: base)
    sessions._capacity = asyncio.Semaphore(0)
    body = {"base_model": "tiny", "lora_config": {"rank": 4}}
    created = await sessions.create("local", body)
    yield QueuedSession(sessions, created["session_id"])
    await sessions.close()
    store.close()


async def test_the_queue_has_accepted_requests_in_the_order_of_their_arrival(
    queued: QueuedSession,
) -> None:
    first = await queued.send_slowly("forward_backward")
    bad, cancelled = (
        queued.send("forward", lambda: batch(token=99)),
        queued.send("forward", batch),
    )
    step = queued.step()
    await asyncio.sleep(0)
    cancelled.cancel()
    queued.release.set()
    results = await asyncio.gather(first, bad, cancelled, step, return_exceptions=True)
    assert [type(result) for result in results] == [dict, ApiError, asyncio.CancelledError, dict]
    waiting = list(queued.sessions.waiting_requests(queued.id))
    assert waiting == ["load", "forward_backward", "optim_step"]


async def test_requests_that_are_checked_while_their_session_ends_are_refused(
    queued: QueuedSession,
) -> None:
    sent = [await queued.send_slowly("forward"), queued.step()]
    await queued.sessions._end(queued.id, "failed", "its process ended")
    queued.release.set()
    for request in sent:
        with pytest.raises(ApiError, match="has ended") as refused:
            await request
        assert refused.value.status == 409
    assert queued.sessions.waiting_requests(queued.id) == {}


async def test_weights_whose_save_was_refused_cannot_be_sampled(
    queued: QueuedSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_session, "_MAX_WAITING", 1)
    with pytest.raises(ApiError, match="requests of this session wait") as refused:
        await queued.sessions.save_sampler("local", queued.id, "one", 0, persist=False)
    assert refused.value.status == 429
    with pytest.raises(ApiError, match="no sampler checkpoint one") as refused:
        await queued.sessions.sample("local", queued.id, "one", {})
    assert refused.value.status == 404
