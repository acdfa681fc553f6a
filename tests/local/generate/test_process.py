"""The answering process: requests in, replies out, and exit when stdin closes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.generate.__main__ import _write  # noqa: E402 - after the skip
from tests.local.generate.conftest import BaseUnderTest, run_until_done  # noqa: E402

LIMIT_S = 600


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
        reply: dict[str, Any] = json.loads(self.child.stdout.readline())
        return reply

    def until_done(self, *names: str) -> dict[str, dict[str, Any]]:
        results: dict[str, dict[str, Any]] = {name: {"text": "", "pieces": 0} for name in names}
        pending = set(names)
        while pending:
            reply = self.line()
            result = results[reply.pop("id")]
            if "delta" in reply:
                result["text"] += reply["delta"]
                result["pieces"] += 1
            else:
                result |= reply
                pending -= {name for name in names if results[name] is result}
        return results

    def close(self) -> None:
        self.timer.cancel()
        self.child.kill()
        self.child.communicate()


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    started = Process("--max-rows", "4")
    yield started
    started.close()


def base(base_under_test: BaseUnderTest, folder: Path | None = None) -> dict[str, Any]:
    return {
        "folder": str(folder or base_under_test.folder),
        "template": "phi3",
        "name": "tiny",
        "licence": "none",
    }


def messages_of(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_eight_concurrent_requests_match_single_requests(
    process: Process, phi: BaseUnderTest, adapters: list[Path], copied: Callable[[Path], Path]
) -> None:
    # A copy, which no other test of this process has loaded: the first adapter of a base is merged.
    copy = base(phi, copied(phi.folder))
    process.send(op="load", id="load", base=copy, adapter=str(adapters[0]))
    assert process.line().items() >= {"id": "load", "loaded": True, "merged": True}.items()
    names = [f"q{n}" for n in range(8)]
    for n, name in enumerate(names):
        process.send(
            op="chat", id=name, base=copy, adapter=str(adapters[0]), messages=messages_of("x" * n),
            params={"temperature": 0, "max_tokens": 12 + n, "stop": None},
        )  # fmt: skip
    results = process.until_done(*names)
    scheduler = phi.scheduler()
    for n, name in enumerate(names):
        chat = phi.chat("x" * n, adapters[0], max_tokens=12 + n)
        scheduler.submit(chat)
        want = run_until_done(scheduler)[chat.id]
        assert results[name]["text"] == want["text"]
        usage, want_usage = results[name]["usage"], want["usage"]
        # How much of a prompt is known from others depends on which of them came in one step.
        assert {**usage, "cached_tokens": 0} == {**want_usage, "cached_tokens": 0}
        assert results[name]["finish_reason"] == want["finish_reason"]


def test_cancelled_request_gets_no_more_replies(process: Process, endless: BaseUnderTest) -> None:
    params = {"temperature": 0, "max_tokens": 3000}
    for name in ("cancelled", "other"):
        messages = messages_of("go on")
        process.send(
            op="chat", id=name, base=base(endless), adapter=None, messages=messages, params=params
        )
    while process.line()["id"] != "other":
        pass
    assert {process.line()["id"] for _ in range(10)} == {"cancelled", "other"}
    process.send(op="cancel", id="cancelled")
    process.send(op="load", id="mark", base=base(endless), adapter=None)
    while (reply := process.line())["id"] != "mark":
        pass
    assert reply["loaded"]
    assert {process.line()["id"] for _ in range(20)} == {"other"}
    # Replies until the cancellation arrive later; read them here, as the next test shares the process.
    process.send(op="cancel", id="other")
    process.send(op="load", id="quiet", base=base(endless), adapter=None)
    while process.line()["id"] != "quiet":
        pass


def test_invalid_lines_get_an_error_and_the_process_continues(
    process: Process, phi: BaseUnderTest
) -> None:
    assert process.child.stdin
    process.child.stdin.write("no json\n[1]\n")
    process.child.stdin.flush()
    wrong = [process.line(), process.line()]
    assert all(reply["error"]["code"] == "invalid_request" for reply in wrong)
    process.send(
        op="chat", id="1", base=base(phi), adapter=None, messages=messages_of("hi"),
        params={"max_tokens": 1},
    )  # fmt: skip
    assert process.until_done("1")["1"]["usage"]["completion_tokens"] == 1


def test_process_exits_when_stdin_closes(endless: BaseUnderTest) -> None:
    process = Process()
    try:
        process.send(
            op="chat", id="1", base=base(endless), adapter=None, messages=messages_of("go on"),
            params={"temperature": 0, "max_tokens": 4000},
        )  # fmt: skip
        assert process.line()["id"] == "1"
        assert process.child.stdin
        process.child.stdin.close()
        assert process.child.wait(timeout=60) == 0
    finally:
        process.timer.cancel()
        process.child.kill()
        process.child.stdout.close() if process.child.stdout else None


def test_reply_is_written_before_the_next_is_computed() -> None:
    output = io.StringIO()
    written: list[str] = []

    def replies() -> Iterator[dict[str, Any]]:
        yield {"id": "first"}
        written.append(output.getvalue())
        yield {"id": "second"}

    _write(output, replies())
    assert written == ['{"id": "first"}\n']
    assert output.getvalue() == '{"id": "first"}\n{"id": "second"}\n'
