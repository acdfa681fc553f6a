"""Children: what they inherit, how they are told, how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maas_client.local.machine.child_processes import ChildProcess, ProcessPool, worker_environment

posix = pytest.mark.skipif(os.name != "posix", reason="process groups are posix")


def test_no_secret_and_no_setting_is_inherited(monkeypatch):
    for name in (
        "AZURE_CLIENT_SECRET",
        "OPENAI_API_KEY",
        "MAAS_API_KEY",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.setenv(name, "canary-secret")
    env = worker_environment(2)
    assert "canary-secret" not in env.values()
    assert env["OMP_WAIT_POLICY"] == "PASSIVE"
    assert env["OMP_NUM_THREADS"] == "2"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in env or env["CUDA_VISIBLE_DEVICES"] != ""
    assert worker_environment(2, device="cpu")["CUDA_VISIBLE_DEVICES"] == ""


async def test_events_come_as_they_are_written(tmp_path):
    code = tmp_path / "talker.py"
    code.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    print('not json')\n"
        "    print('[1]')\n"
        "    print(json.dumps({'got': json.loads(line)}), flush=True)\n"
        "print('said on stderr', file=sys.stderr)\n"
    )
    env = {**worker_environment(1), "PYTHONPATH": str(tmp_path)}
    child = await ChildProcess.start("talker", env=env, log=tmp_path / "log")
    await child.send({"a": "é"})
    assert await child.read_event() == {"got": {"a": "é"}}
    await child.stop(10)
    assert await child.wait() is None
    assert await child.read_event() is None
    await child.send({"late": 1})  # nobody reads it, and that is no error
    assert "said on stderr" in (tmp_path / "log").read_text()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@posix
async def test_one_that_does_not_listen_is_killed_with_what_it_started(tmp_path):
    code = tmp_path / "deaf.py"
    code.write_text(
        "import subprocess, sys, time\n"
        "kid = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('{\"kid\": %d}' % kid.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    env = {**worker_environment(1), "PYTHONPATH": str(tmp_path)}
    child = await ChildProcess.start("deaf", env=env, log=tmp_path / "log")
    kid = (await child.read_event())["kid"]
    begin = time.monotonic()
    await child.stop(0.2)
    assert time.monotonic() - begin < 5
    reason = await child.wait()
    assert reason.startswith("signal SIGKILL")
    assert "memory" in reason
    end = time.monotonic() + 5
    while runs(kid):
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


@posix
async def test_close_leaves_no_child(tmp_path):
    compute = ProcessPool(tmp_path, 1, "cpu", warm=False)
    children = [await compute.take_worker() for _ in range(3)]
    await compute.close()
    assert not any(child.is_running for child in children)


async def test_two_warm_ups_make_one_spare(tmp_path):
    compute = ProcessPool(tmp_path, 1, "cpu", warm=True)
    await asyncio.gather(compute.warm_up(), compute.warm_up())
    assert len(compute._children) == 1
    await compute.close()


def worker(tmp_path, order=None, *, close=True):
    child = subprocess.Popen(
        [sys.executable, "-m", "maas_client.local.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    if order is not None:
        child.stdin.write(json.dumps(order).encode() + b"\n")
        child.stdin.flush()
    if close:
        child.stdin.close()
    return child


@posix
def test_a_worker_without_a_server_goes(tmp_path):
    child = worker(tmp_path)
    assert child.wait(10) != 0
    child.stdout.close()


@posix
def test_a_worker_goes_with_its_server_in_the_middle_of_a_job(tmp_path):
    rows = tmp_path / "train.jsonl"
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    rows.write_text((json.dumps(row) + "\n") * 50)
    (tmp_path / "out").mkdir()
    order = {"engine": "instant", "job": "j", "model": "Phi-3-mini-4k-instruct", "base": {"name": "instant"},
             "train": str(rows), "validation": None, "recipe": {}, "out": str(tmp_path / "out"), "threads": 1,
             "log": str(tmp_path / "log"), "lock": str(tmp_path / "lock"), "pace_s": 0.05}  # fmt: skip
    child = worker(tmp_path, order, close=False)
    assert json.loads(child.stdout.readline())["event"] == "started"
    assert json.loads(child.stdout.readline())["event"] == "step"
    child.stdin.close()
    assert child.wait(5) == -signal.SIGKILL
    child.stdout.close()
    assert not (tmp_path / "out" / "memory.jsonl").exists()
