"""The process itself: lines in, lines out, and gone when nobody is there any more."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.local.generate.conftest import Bench, drain  # noqa: E402 - after the skip

LIMIT_S = 60


class Process:
    def __init__(self, *args: str) -> None:
        command = [sys.executable, "-m", "maas_client.local.generate", *args]
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.timer = threading.Timer(LIMIT_S, self.child.kill)
        self.timer.start()
        assert self.line() == {"ready": True}

    def send(self, **message: Any) -> None:
        assert self.child.stdin
        self.child.stdin.write(json.dumps(message) + "\n")
        self.child.stdin.flush()

    def line(self) -> dict[str, Any]:
        assert self.child.stdout
        said: dict[str, Any] = json.loads(self.child.stdout.readline())
        return said

    def until_done(self, *names: str) -> dict[str, dict[str, Any]]:
        got: dict[str, dict[str, Any]] = {name: {"text": "", "pieces": 0} for name in names}
        open_ones = set(names)
        while open_ones:
            said = self.line()
            one = got[said.pop("id")]
            if "delta" in said:
                one["text"] += said["delta"]
                one["pieces"] += 1
            else:
                one |= said
                open_ones -= {name for name in names if got[name] is one}
        return got

    def close(self) -> None:
        self.timer.cancel()
        self.child.kill()
        self.child.communicate()


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    started = Process("--max-rows", "4")
    yield started
    started.close()


def base(bench: Bench) -> dict[str, Any]:
    return {"folder": str(bench.folder), "template": "phi3", "name": "tiny", "licence": "none"}


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_eight_concurrent_requests_match_single_requests(
    process: Process, phi: Bench, adapters: list[Path]
) -> None:
    process.send(op="load", id="load", base=base(phi), adapter=str(adapters[0]))
    assert process.line().items() >= {"id": "load", "loaded": True, "merged": True}.items()
    names = [f"q{n}" for n in range(8)]
    for n, name in enumerate(names):
        process.send(
            op="chat", id=name, base=base(phi), adapter=str(adapters[0]), messages=ask("x" * n),
            params={"temperature": 0, "max_tokens": 12 + n, "stop": None},
        )  # fmt: skip
    got = process.until_done(*names)
    host = phi.host()
    for n, name in enumerate(names):
        chat = phi.chat("x" * n, adapters[0], max_tokens=12 + n)
        host.submit(chat)
        want = drain(host)[chat.id]
        assert got[name]["text"] == want["text"]
        assert got[name]["usage"] == want["usage"]
        assert got[name]["finish_reason"] == want["finish_reason"]


def test_cancelled_request_gets_no_more_replies(process: Process, endless: Bench) -> None:
    params = {"temperature": 0, "max_tokens": 3000}
    for name in ("cancelled", "other"):
        messages = ask("go on")
        process.send(
            op="chat", id=name, base=base(endless), adapter=None, messages=messages, params=params
        )
    while process.line()["id"] != "other":
        pass
    assert {process.line()["id"] for _ in range(10)} == {"cancelled", "other"}
    process.send(op="cancel", id="cancelled")
    process.send(op="load", id="mark", base=base(endless), adapter=None)
    while (said := process.line())["id"] != "mark":
        pass
    assert said["loaded"]
    assert {process.line()["id"] for _ in range(20)} == {"other"}
    # What is said before the process hears of this belongs to nobody: the next test shares it.
    process.send(op="cancel", id="other")
    process.send(op="load", id="quiet", base=base(endless), adapter=None)
    while process.line()["id"] != "quiet":
        pass


def test_invalid_lines_get_an_error_and_the_process_continues(process: Process, phi: Bench) -> None:
    assert process.child.stdin
    process.child.stdin.write("no json\n[1]\n")
    process.child.stdin.flush()
    wrong = [process.line(), process.line()]
    assert all(said["error"]["code"] == "invalid_request" for said in wrong)
    process.send(
        op="chat", id="1", base=base(phi), adapter=None, messages=ask("hi"),
        params={"max_tokens": 1},
    )  # fmt: skip
    assert process.until_done("1")["1"]["usage"]["completion_tokens"] == 1


def test_process_exits_when_stdin_closes(endless: Bench) -> None:
    process = Process()
    try:
        process.send(
            op="chat", id="1", base=base(endless), adapter=None, messages=ask("go on"),
            params={"temperature": 0, "max_tokens": 4000},
        )  # fmt: skip
        assert process.line()["id"] == "1"
        assert process.child.stdin
        process.child.stdin.close()
        assert process.child.wait(timeout=5) == 0
    finally:
        process.timer.cancel()
        process.child.kill()
        process.child.stdout.close() if process.child.stdout else None
