"""The local server that a client starts where none runs: found, shared, restarted, stopped."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from maas_client import AsyncClient, Client, _settings
from maas_client._local_server import process as server_process
from maas_client._local_server.probe import find_default_server
from maas_client._local_server.record import RECORD_FILE, ServerRecord, read_running
from maas_client.cli import main
from maas_client.errors import (
    AuthError,
    ConfigError,
    MissingExtraError,
    NotFoundError,
    ServiceError,
    TransportError,
)
from tests.contract.server.conftest import PLAIN_HTTP

DATA = Path(__file__).parents[4] / "examples/data/train.jsonl"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and modes are posix")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The usual state directory of a user without a server; its server is stopped at the end."""
    folder = tmp_path / "state"
    monkeypatch.delenv("MAAS_START_SERVER")
    monkeypatch.setenv("MAAS_STATE_DIR", str(folder))
    monkeypatch.setenv("MAAS_ENGINE", "instant")
    # Nothing listens on a default port of this test's own, whatever the developer runs.
    monkeypatch.setattr(_settings, "DEFAULT_URL", f"http://127.0.0.1:{_unused_port()}")
    yield folder
    server_process.stop(folder)


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _running(state: Path) -> ServerRecord:
    record = read_running(state)
    assert record is not None
    return record


def _kill(state: Path) -> None:
    """Kill the server, which leaves its record behind, and wait until its lock is gone."""
    [process] = [p for p in server_process._started if p.pid == _running(state).pid]
    process.kill()
    process.wait()
    assert (state / RECORD_FILE).exists()
    assert read_running(state) is None


def test_the_first_request_starts_a_server_and_says_so(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Client.local() as client:
        assert not state.exists()  # nothing happens before the first request
        assert list(client.jobs.list()) == []
        record = _running(state)
        assert record.idle_timeout_s == server_process.IDLE_TIMEOUT_S
        [line] = [r.getMessage() for r in caplog.records if "started a local server" in r.message]
        assert record.url in line
        assert "simulated" in line
        assert "maas-client serve --stop" in line
        list(client.jobs.list())
    with Client.local() as client:
        list(client.jobs.list())
    assert _running(state) == record  # the second client uses the same server
    assert sum("started a local server" in r.message for r in caplog.records) == 1


async def test_an_async_client_starts_one_for_all_its_tasks(state: Path) -> None:
    import asyncio

    async with AsyncClient.local() as client:

        async def count() -> int:
            return len([job async for job in client.jobs.list()])

        assert await asyncio.gather(*(count() for _ in range(4))) == [0] * 4
    assert _running(state)


def test_a_key_that_the_own_server_does_not_accept_is_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client.local(api_key="another") as client, pytest.raises(ConfigError, match="no local"):
        list(client.jobs.list())
    assert not state.exists()  # none was started
    with Client.local() as client:
        list(client.jobs.list())
    record = _running(state)
    assert record.api_key
    with pytest.raises(ConfigError, match="another key than the one given") as caught:
        Client.local(api_key="another")
    assert record.api_key not in str(caught.value)
    with Client.local(url=record.url, api_key="another") as client, pytest.raises(AuthError):
        list(client.jobs.list())
    with Client.local(api_key=record.api_key) as client:
        assert list(client.jobs.list()) == []
    monkeypatch.setenv("MAAS_API_KEY", "of-another-server")
    with Client.local() as client:
        assert list(client.jobs.list()) == []


def test_the_key_is_in_a_private_file_and_no_one_gets_in_without_it(state: Path) -> None:
    import httpx

    with Client.local() as client:
        list(client.jobs.list())
    path = state / RECORD_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    record = _running(state)
    assert record.api_key
    assert record.api_key not in repr(record)
    headers = {"Authorization": "Bearer x"}
    address = f"{record.url}/openai/v1/fine_tuning/jobs"
    assert httpx.get(address, headers=headers, **PLAIN_HTTP).status_code == 401
    headers = {"Authorization": f"Bearer {record.api_key}"}
    assert httpx.get(address, headers=headers, **PLAIN_HTTP).status_code == 200
    with Client.local(url=record.url) as client:  # the address that is printed is enough
        assert list(client.jobs.list()) == []
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="other users"):
        Client.local()
    path.chmod(0o600)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"url": 3}', '{"pid": 1}',
        '{"url": "http://203.0.113.1:8765", "pid": 1, "api_key": "k"}',
    ],
)  # fmt: skip
def test_an_invalid_record_is_ignored(tmp_path: Path, text: str) -> None:
    path = tmp_path / RECORD_FILE
    path.write_text(text)
    path.chmod(0o600)
    assert read_running(tmp_path) is None


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_record_that_is_no_file_is_an_error_of_this_library(tmp_path: Path, kind: str) -> None:
    path = tmp_path / RECORD_FILE
    path.mkdir(mode=0o700) if kind == "folder" else os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match=r"server\.json is not a file"):
        read_running(tmp_path)


def test_a_client_says_that_it_waits_for_a_server_without_a_record(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from maas_client.local.embedded_server import serve

    monkeypatch.setattr(server_process, "_NOTICE_S", 0.0)
    monkeypatch.setattr(server_process, "_START_S", 0.2)
    with serve(engine="instant", state_dir=state):
        (state / RECORD_FILE).unlink()
        owner = f"the local server (process {os.getpid()})"
        with Client.local() as client, pytest.raises(ServiceError) as caught:
            list(client.jobs.list())
    assert owner in str(caught.value)
    assert any(f"waiting for {owner}" in r.getMessage() for r in caplog.records)


def test_a_client_says_that_it_waits_for_a_program_that_starts_a_server(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_process, "_NOTICE_S", 0.0)
    monkeypatch.setattr(server_process, "_START_S", 0.1)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        server_process._start_lock(state),
        Client.local() as client,
        pytest.raises(ServiceError, match="another program"),
    ):
        list(client.jobs.list())
    waits = [r for r in caplog.records if "waiting for another program" in r.getMessage()]
    assert len(waits) == 1
    assert str(state) in waits[0].getMessage()


def test_a_killed_server_is_replaced_under_the_same_client(state: Path) -> None:
    with Client.local() as client:
        dataset = client.datasets.upload(str(DATA), model="Phi-3-mini")
        job = client.jobs.wait(client.jobs.create("Phi-3-mini", dataset))
        first = _running(state)
        _kill(state)
        assert client.jobs.get(job).succeeded
        client.deployments.create("perch", job)
        messages = [{"role": "user", "content": "How much is the Gust?"}]
        _kill(state)
        assert list(client.chat.stream("perch", messages))
        second = _running(state)
    assert second.url == first.url  # the address is kept if it is free
    assert (second.pid, second.api_key) != (first.pid, first.api_key)


def test_programs_that_start_at_once_share_one_server(state: Path) -> None:
    program = (
        "import sys, maas_client as maas;"
        "from pathlib import Path;"
        "from maas_client import _settings;"
        "from maas_client._local_server.record import read_running;"
        f"_settings.DEFAULT_URL = {_settings.DEFAULT_URL!r};"
        "client = maas.Client.local(); list(client.jobs.list());"
        "print(read_running(Path(sys.argv[1])).pid);"
        "client.close()"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", program, str(state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    results = [child.communicate(timeout=120) for child in children]
    assert {out for out, _ in results} == {f"{_running(state).pid}\n"}, results
    assert sum("started a local server" in err for _, err in results) == 1
    assert not [err for _, err in results if "Warning" in err]  # the server outlives them


def test_a_server_ends_when_it_is_idle_but_not_if_it_is_to_stay(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "IDLE_TIMEOUT_S", 0.5)
    with Client.local() as client:
        list(client.jobs.list())
        process = server_process._started[-1]
        assert process.wait(30) == 0
        assert not (state / RECORD_FILE).exists()
        with Client.local(keep=True) as keeping:
            list(keeping.jobs.list())
        process = server_process._started[-1]
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        assert _running(state).pid == process.pid


def test_a_port_that_another_program_uses_is_avoided(state: Path) -> None:
    port = int(_settings.DEFAULT_URL.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as listener, Client.local() as client:
        listener.settimeout(0)
        assert list(client.jobs.list()) == []
        assert _running(state).url != _settings.DEFAULT_URL


@pytest.mark.parametrize("body", [b"[" * 60_000, b"1", b"[{}]", b"\xff", b"{}"])
def test_a_program_at_the_default_address_with_other_answers_is_ignored(
    state: Path, body: bytes
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    address = urlsplit(_settings.DEFAULT_URL)
    with ThreadingHTTPServer((str(address.hostname), int(address.port or 0)), Handler) as program:
        threading.Thread(target=program.serve_forever, args=(0.05,), daemon=True).start()
        try:
            assert find_default_server(None) is None
        finally:
            program.shutdown()


def test_a_server_at_the_default_address_with_another_state_is_used(
    state: Path, tmp_path: Path
) -> None:
    from maas_client.local.embedded_server import serve

    port = int(_settings.DEFAULT_URL.rpartition(":")[2])
    with serve(engine="instant", port=port, state_dir=tmp_path / "other"), Client.local() as client:
        with pytest.raises(NotFoundError):
            client.jobs.get("nothing")
        assert not state.exists()
        with pytest.raises(ConfigError, match="unknown engine"):
            list(Client.local(engine="peft").jobs.list())


def test_a_server_at_the_default_address_that_needs_a_key_is_left_alone(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its key it is no server of this user: as one that another state directory's client started."""
    from maas_client.local.embedded_server import serve

    port = int(_settings.DEFAULT_URL.rpartition(":")[2])
    other = tmp_path / "other"
    with serve(engine="instant", port=port, state_dir=other, api_key="key"):
        with Client.local(api_key="key") as client:  # its key is given: it is used
            assert list(client.jobs.list()) == []
        assert not state.exists()
        monkeypatch.setenv("MAAS_START_SERVER", "0")
        with Client.local() as client, pytest.raises(AuthError) as caught:
            list(client.jobs.list())
        assert "MAAS_API_KEY" in str(caught.value)
        assert "maas-client serve --port 0" in str(caught.value)
        monkeypatch.delenv("MAAS_START_SERVER")
        assert main(["doctor"]) == 0
        assert "none runs; commands that need one start it" in capsys.readouterr().out
        with Client.local(engine="instant") as client:
            assert list(client.jobs.list()) == []
        assert _running(state).url != _settings.DEFAULT_URL


def test_a_server_that_answers_before_its_record_is_written_is_waited_for(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its record the client has no key: a program that starts at that moment was refused."""
    from maas_client.local.embedded_server import serve
    from maas_client.local.state.files import write_private_file

    port = int(_settings.DEFAULT_URL.rpartition(":")[2])
    with serve(engine="instant", port=port, state_dir=tmp_path / "state", api_key="key"):
        record = (state / RECORD_FILE).read_text("utf-8")
        (state / RECORD_FILE).unlink()

        def find_and_write(key: str | None) -> ServerRecord | None:
            found = find_default_server(key)
            write_private_file(state / RECORD_FILE, record)
            return found

        monkeypatch.setattr(server_process, "find_default_server", find_and_write)
        with Client.local() as client:
            assert list(client.jobs.list()) == []


def test_an_engine_other_than_the_running_one_is_refused(state: Path) -> None:
    with Client.local(engine="instant") as client:
        list(client.jobs.list())
    with pytest.raises(ConfigError, match="engine instant, not peft") as caught:
        Client.local(engine="peft")
    assert "serve --stop" in str(caught.value)
    with pytest.raises(ConfigError, match="unknown engine"):
        Client.local(engine="magic")


@pytest.mark.parametrize("options", [{"engine": "instant"}, {"keep": True}])
def test_options_of_a_new_server_are_refused_with_an_address(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Client.local(url="http://127.0.0.1:1", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [["--engine", "instant"], ["--keep"]])
def test_options_of_a_local_server_are_refused_on_azure(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "list", "--backend", "azureml", *options]) == 1
    message = f"{options[0]} has no effect with the backend azureml"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["MAAS_URL", "--url", "MAAS_START_SERVER"])
def test_no_server_is_started_for_an_address_that_is_given(
    state: Path, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = []
    if variable == "--url":
        options = ["--url", _settings.DEFAULT_URL]
    else:
        is_switch = variable == "MAAS_START_SERVER"
        monkeypatch.setenv(variable, "0" if is_switch else _settings.DEFAULT_URL)
    assert main(["jobs", "list", *options]) == 1
    assert "maas-client serve" in capsys.readouterr().err
    assert not state.exists()


def test_a_server_that_cannot_start_says_why(
    state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    with Client.local() as client, pytest.raises(ConfigError, match="did not start") as caught:
        list(client.jobs.list())
    assert "chmod 700" in str(caught.value)
    state.chmod(0o700)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('torch', 'starlette') else find(name, *a)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(broken))
    for engine, extra, package in (
        ("peft", "local", "torch"),
        ("instant", "server", "starlette"),
    ):
        monkeypatch.setenv("MAAS_ENGINE", engine)
        with Client.local() as client, pytest.raises(MissingExtraError, match=package) as missing:
            list(client.jobs.list())
        assert missing.value.extra == extra
        assert ("engine='instant'" in str(missing.value)) == (engine == "peft")


def test_a_state_directory_that_cannot_be_used_is_an_error_of_this_library(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.write_text("a file")
    with Client.local() as client, pytest.raises(ConfigError, match="MAAS_STATE_DIR"):
        list(client.jobs.list())


def test_a_user_without_a_home_directory_gets_no_server(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MAAS_STATE_DIR")
    monkeypatch.setattr(Path, "home", no_home)
    with Client.local() as client, pytest.raises(TransportError, match="maas-client serve"):
        list(client.jobs.list())
    Client.local(url="http://127.0.0.1:1").close()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        return (code, *capsys.readouterr())

    return call


def test_a_command_starts_the_server_and_serve_shows_and_stops_it(state: Path, run: Run) -> None:
    code, _, err = run("serve", "--status")
    assert (code, "no local server" in err) == (1, True)
    code, _, err = run("doctor")
    assert not state.exists()  # only looks
    code, out, err = run("fine-tune", str(DATA), "--model", "Phi-3-mini", "--deploy", "perch")
    assert code == 0
    assert err.count("started a local server") == 1
    assert "WARNING" not in err.partition("started a local")[0].splitlines()[-1:]
    code, out, err = run("chat", "perch", "How much is the Gust?")
    assert (code, bool(out.strip())) == (0, True)
    assert "started" not in err
    code, out, _ = run("serve", "--status")
    assert code == 0
    assert _running(state).url in out
    assert "instant" in out
    assert "idle" in out
    code, out, _ = run("serve", "--status", "--json")
    assert json.loads(out)["pid"] == _running(state).pid
    assert "key" not in json.loads(out)
    pid = _running(state).pid
    code, _, err = run("serve", "--stop")
    assert (code, f"process {pid}" in err) == (0, True)
    assert read_running(state) is None
    code, out, err = run("serve", "--stop", "--json")
    assert (code, json.loads(out)["running"]) == (0, False)
    code, out, _ = run("jobs", "list")  # its state is still there, under a new server
    assert "Completed" in out


def test_the_line_about_a_started_server_stops_that_server(
    state: Path, tmp_path: Path, run: Run
) -> None:
    other = tmp_path / "another state"
    _, _, err = run("open", "--no-browser", "--state-dir", str(other))
    try:
        command = err.partition("stop it with: maas-client ")[2].splitlines()[0]
        code, _, err = run(*shlex.split(command))
        assert (code, "stopped the local server" in err) == (0, True)
    finally:
        server_process.stop(other)


def test_stop_refuses_options_without_a_meaning(run: Run) -> None:
    code, _, err = run("serve", "--stop", "--port", "1")
    assert (code, "--port" in err) == (1, True)
    assert run("serve", "--stop", "--status")[0] == 2


@pytest.mark.parametrize("shell", ["sh", "dotenv"])
def test_serve_beside_a_running_server_names_the_ways_out_and_fails_where_it_is_sourced(
    tmp_path: Path, run: Run, shell: str
) -> None:
    from maas_client.local.embedded_server import serve

    with serve(engine="instant", state_dir=tmp_path / "state"):
        options = ("--state-dir", str(tmp_path / "state"), "--proxy", "--engine", "instant")
        code, out, err = run("serve", *options, "--print-env", shell)
    assert code == 1
    assert f"maas-client serve --stop --state-dir {tmp_path / 'state'}" in err
    assert "--state-dir DIR --port 0" in err
    (tmp_path / "proxy.env").write_text(out)
    script = f". {tmp_path}/proxy.env && echo continues"
    sourced = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    if shell == "sh":
        assert (sourced.stdout, "serve failed" in sourced.stderr) == ("", True)
    else:  # a .env file has no commands
        assert out == ""


def test_stop_does_not_end_a_program_with_a_server_inside(tmp_path: Path, run: Run) -> None:
    from maas_client.local.embedded_server import serve

    with serve(engine="instant", state_dir=tmp_path / "state") as server:
        code, _, err = run("serve", "--stop", "--state-dir", str(tmp_path / "state"))
        assert (code, "inside another program" in err) == (1, True)
        assert list(server.client().jobs.list()) == []


def test_the_server_keeps_its_jobs_when_a_terminal_is_interrupted(state: Path) -> None:
    """The server is in its own session: Ctrl-C in the terminal that started it does not reach it."""
    with Client.local() as client:
        list(client.jobs.list())
    pid = _running(state).pid
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGTERM)  # what a machine that shuts down sends
    assert server_process._started[-1].wait(30) == 0
