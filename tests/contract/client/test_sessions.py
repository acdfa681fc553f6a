"""``client.sessions``, through Client and AsyncClient, against the local server.

Each session is a process that loads torch, so one test does everything with two of them.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from importlib.util import find_spec
from typing import Any

import anyio
import httpx
import pytest

import maas_client as maas
from maas_client import cli
from maas_client._transport import heartbeats
from maas_client.local.embedded_server import serve
from maas_client.local.sessions.service import Sessions

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="sessions need torch")
PROMPT, ANSWER = [5, 6, 7], [8, 9]
ADAM = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.0}
EXAMPLE = maas.TrainingExample.from_tokens(PROMPT, ANSWER, advantage=1.0, logprobs=[-1.0, -1.0])


def check_commands(
    capsys: pytest.CaptureFixture[str], url: str, running: maas.Session, ended: maas.Session
) -> None:
    """Run ``maas-client sessions`` on a session that runs and on one that has ended."""

    def run(*words: str) -> tuple[str, str]:
        assert cli.main(["sessions", *words, "--url", url]) == 0
        printed = capsys.readouterr()
        return printed.out, printed.err

    out, err = run("list", "--wide")
    assert out.split()[:3] == ["ID", "STATUS", "BASE"]
    assert [line.split()[0] for line in out.splitlines()[1:]] == [running.id, ended.id]
    assert "three, sampler" in out
    assert f"maas-client sessions show --url {url} {running.id}" in err
    out, _ = run("list", "--limit", "1", "--json")
    assert [item["id"] for item in json.loads(out)] == [running.id]
    out, err = run("show", running.id)
    assert re.search(r"^weights +tiny$", out, re.M)
    assert f"sessions complete --url {url} {running.id}" in err
    out, err = run("checkpoints", ended.id)
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["three", "training"],
        ["sampler", "sampler"],
    ]
    assert f'client.sessions.load("{ended.id}/three")' in err
    assert run("complete", running.id)[1] == f"completed {running.id}\n"
    assert json.loads(run("delete", running.id, "--json")[0]) == {"deleted": running.id}


async def check_order(sessions: Sessions, session_id: str) -> None:
    """Send an optimiser step while the batch before it is checked: the step uses its gradients."""
    started, release = threading.Event(), threading.Event()
    tokens = {"tokens": PROMPT}
    batch = {
        "data": [
            {
                "model_input": {"chunks": [tokens]},
                "loss_fn_inputs": {
                    "target_tokens": {"data": [6, *ANSWER]},
                    "weights": {"data": [1.0] * 3},
                },
            }
        ],
        "loss_fn": "cross_entropy",
    }

    def read() -> dict[str, Any]:
        started.set()
        assert release.wait(30)
        return batch

    first = asyncio.ensure_future(sessions.train("local", session_id, "forward_backward", read))
    assert await asyncio.to_thread(started.wait, 30)
    second = asyncio.ensure_future(sessions.optim_step("local", session_id, ADAM))
    await asyncio.sleep(0)
    release.set()
    for accepted in (await first, await second):
        envelope = {"status": "pending"}
        while envelope["status"] == "pending":
            envelope = await sessions.request("local", session_id, accepted["request_id"])
        assert envelope["status"] == "completed", envelope


@pytest.mark.slow
async def test_a_session_trains_saves_samples_and_continues_in_another(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT_INTERVAL_S", 0.05)
    alive, alive_async = threading.Event(), anyio.Event()

    def note(request: httpx.Request) -> None:
        if request.url.path.endswith("/heartbeat"):
            alive.set()

    async def note_async(request: httpx.Request) -> None:
        if request.url.path.endswith("/heartbeat"):
            alive_async.set()

    with (
        serve(base="tiny", engine="peft", device="cpu", threads=1) as server,
        httpx.Client(event_hooks={"request": [note]}) as http,
    ):
        client = maas.Client.local(url=server.url, http=http)
        sessions = client.sessions
        with sessions.create("Phi-4-mini-instruct", lora_rank=4, seed=7) as session:
            losses = []
            for step in (1, 2, 3):
                losses.append(sessions.forward_backward(session, [EXAMPLE]).loss or 0)
                assert sessions.optim_step(session, learning_rate=1e-2).step == step
            assert losses == sorted(losses, reverse=True)
            trained = sessions.forward(session, [EXAMPLE]).logprobs
            saved = sessions.save(session, "three", step=3)
            sampler = sessions.save(session, "sampler", kind="sampler")
            samples = sessions.sample(
                session,
                PROMPT,
                checkpoint=sampler,
                max_tokens=2,
                num_samples=2,
                temperature=0,
                prompt_logprobs=True,
            )
            assert [sequence.tokens for sequence in samples.sequences] == [(8, 9)] * 2
            assert samples.sequences[0].logprobs == pytest.approx(trained[0][-2:], abs=1e-4)
            assert samples.prompt_logprobs is not None
            assert samples.prompt_logprobs[0] is None
            assert {(each.id, each.kind) for each in sessions.checkpoints(session)} == {
                ("three", "training"),
                ("sampler", "sampler"),
            }
            with pytest.raises(maas.BadRequestError, match="999999"):
                sessions.forward(session, [maas.TrainingExample.from_tokens([1], [999999])])
            assert alive.wait(30)
            service = server._server.services.sessions
            assert service._watcher is not None
            order = check_order(service, session.id)
            asyncio.run_coroutine_threadsafe(order, service._watcher.get_loop()).result(60)
        with pytest.raises(maas.ConflictError, match="completed"):
            sessions.optim_step(session)
        assert "waiting for" not in caplog.text  # a poll is held back until there is a result

        async with httpx.AsyncClient(event_hooks={"request": [note_async]}) as async_http:
            again = maas.AsyncClient.local(url=server.url, http=async_http).sessions
            async with await again.load(saved) as other:
                assert other.lora_rank == 4
                assert (await again.forward(other, [EXAMPLE])).logprobs == trained
                await again.forward_backward(other, [EXAMPLE], loss="ppo", clip_low=0.5)
                assert (await again.optim_step(other)).step == 4
                with anyio.fail_after(30):
                    await alive_async.wait()
                assert {session.id, other.id} == {each.id async for each in again.list()}
                check_commands(capsys, server.url, running=other, ended=session)
            with pytest.raises(maas.ConfigError, match="async with"):
                other.__enter__()
            with pytest.raises(maas.NotFoundError):
                await again.heartbeat(other)
            await again.delete(other)
