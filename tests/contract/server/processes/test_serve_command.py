"""``maas-client serve``, started as a person or a script starts it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.contract.server.conftest import PLAIN_HTTP

posix = pytest.mark.skipif(os.name != "posix", reason="signals and modes are posix")


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "maas_client", "serve", "--engine", "instant", *map(str, args)]


@contextmanager
def serving(tmp_path, *args: object):
    ready = tmp_path / "ready.json"
    ready.unlink(missing_ok=True)
    child = subprocess.Popen(
        command("--port", 0, "--state-dir", tmp_path / "state", "--ready-file", ready, *args),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert child.poll() is None, child.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield json.loads(ready.read_text()), child
    finally:
        child.kill()
        child.communicate()


def ws(url: str, **headers: str) -> int:
    path = (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )
    return httpx.get(
        f"{url}{path}?api-version=2024-10-01", headers=headers, **PLAIN_HTTP
    ).status_code


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_file_and_clean_exit(tmp_path, number):
    with serving(tmp_path, "--json") as (info, child):
        assert set(info) == {"url", "pid"}
        assert info["pid"] == child.pid
        assert ws(info["url"], Authorization="Bearer x") == 200
        assert stat.S_IMODE((tmp_path / "ready.json").stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
        child.send_signal(number)
        out, err = child.communicate(timeout=20)
        assert child.returncode == 0
        assert json.loads(out) == info
        assert "simulated" in err
        assert "Traceback" not in err
        assert not (tmp_path / "ready.json").exists()


@posix
def test_two_interrupts_end_the_server_without_a_traceback(tmp_path):
    with serving(tmp_path) as (info, child), httpx.Client(**PLAIN_HTTP) as client:
        assert (
            client.get(f"{info['url']}/discovery").status_code == 200
        )  # its connection stays open
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
        assert child.returncode == 0
        assert err.endswith("stopped\n")
        assert "Traceback" not in err


@posix
def test_command_says_that_it_waits_for_a_stopped_server(tmp_path):
    with serving(tmp_path) as (info, child):
        child.send_signal(signal.SIGSTOP)
        client = subprocess.Popen(
            [sys.executable, "-m", "maas_client", "jobs", "list", "--url", info["url"]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = client.stderr.readline()
        child.send_signal(signal.SIGCONT)
        _, err = client.communicate(timeout=60)
    assert line == f"waiting for {info['url']} (jobs.list); this call ends in at most 58 s\n"
    assert (client.returncode, err) == (0, "there are no jobs\n")


def test_stale_ready_file_is_ignored(tmp_path):
    with serving(tmp_path) as (first, child):
        child.kill()
        child.wait()
        assert (tmp_path / "ready.json").exists()
        second = subprocess.Popen(
            command(
                "--port",
                0,
                "--state-dir",
                tmp_path / "state",
                "--ready-file",
                tmp_path / "ready.json",
            ),
            stderr=subprocess.DEVNULL,
        )
        deadline, info = time.monotonic() + 30, first
        while info == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            with suppress(FileNotFoundError):
                info = json.loads((tmp_path / "ready.json").read_text())
        assert info["pid"] == second.pid
        second.kill()
        second.wait()


@posix
def test_generated_api_key(tmp_path):
    with serving(tmp_path, "--api-key", "auto") as (info, _):
        path = tmp_path / "state" / "api-key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = path.read_text().strip()
        assert len(key) >= 32
        assert ws(info["url"], Authorization=f"Bearer {key}") == 200
        assert ws(info["url"], **{"api-key": key}) == 200
        assert ws(info["url"], Authorization="Bearer other") == 401


@posix
@pytest.mark.parametrize("form", ["separate", "joined", "file"])
def test_api_key_is_not_in_the_process_list(tmp_path, form):
    key = "canary-key-of-this-server"
    (tmp_path / "key").write_text(key + "\n")
    options = {
        "separate": ["--api-key", key],
        "joined": [f"--api-key={key}"],
        "file": ["--api-key", f"@{tmp_path / 'key'}"],
    }[form]
    with serving(tmp_path, *options) as (info, child):
        assert info["pid"] == child.pid
        assert ws(info["url"], Authorization="Bearer x") == 401
        assert ws(info["url"], Authorization=f"Bearer {key}") == 200
        listed = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(child.pid)],
                                capture_output=True, text=True, check=True).stdout  # fmt: skip
        assert "serve" in listed
        assert key not in listed


def test_a_link_to_the_page_is_printed(tmp_path):
    with serving(tmp_path, "--api-key", "auto") as (info, child):
        line = next(line for line in child.stderr if "in a browser: " in line)
        link = line.split("in a browser: ")[1].split()[0]
        assert link.startswith(f"{info['url']}/?token=")
        assert f"maas-client open --state-dir {tmp_path / 'state'}" in line
        answers = [httpx.get(link, headers={"Accept": "text/html"}, **PLAIN_HTTP) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [303, 401]


def test_api_key_file_that_cannot_be_read_is_one_sentence(tmp_path):
    code, text = fails("--port", 0, "--state-dir", tmp_path, "--api-key", f"@{tmp_path / 'no'}")
    assert (code, "cannot be read from" in text, "@FILE" in text) == (1, True, True)
    (tmp_path / "empty").write_text("\n")
    code, text = fails("--port", 0, "--state-dir", tmp_path, "--api-key", f"@{tmp_path / 'empty'}")
    assert (code, "the API key is empty" in text) == (1, True)


def test_wide_bind_requires_key(tmp_path):
    with serving(tmp_path, "--host", "0.0.0.0", "--api-key", "a-key-of-some-length") as (info, _):
        assert info["url"].startswith("http://127.0.0.1:")
        assert ws(info["url"], Authorization="Bearer a-key-of-some-length") == 200
        assert ws(info["url"], Authorization="Bearer x") == 401


@pytest.mark.parametrize("host", ["127.0.0.2", "::1", "localhost"])
def test_other_loopback_addresses(tmp_path, host):
    with serving(tmp_path, "--host", host) as (info, _):
        assert ws(info["url"], Authorization="Bearer x") == 200
        assert ws(info["url"], Authorization="Bearer x", Host="evil.example") == 421


def fails(*args: object) -> tuple[int, str]:
    done = subprocess.run(command(*args), capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_invalid_options_give_one_sentence(tmp_path, monkeypatch):
    code, text = fails("--host", "0.0.0.0", "--state-dir", tmp_path / "a")
    assert (code, "--api-key" in text) == (1, True)
    code, text = fails("--host", "0.0.0.0", "--api-key", "short", "--state-dir", tmp_path / "a")
    assert (code, "16 characters" in text) == (1, True)
    code, text = fails(
        "--host", "no.such.host.invalid", "--api-key", "k" * 20, "--state-dir", tmp_path / "a"
    )
    assert (code, "cannot listen" in text) == (1, True)
    assert fails("--port", "70000")[0] == 2
    assert fails("--engine", "magic")[0] == 2
    assert fails("--precision", "int4")[0] == 2
    code, text = fails("--engine", "instant", "--precision", "int8", "--state-dir", tmp_path / "a")
    assert (code, "no effect with the engine instant" in text) == (1, True)
    monkeypatch.setenv("MAAS_PRECISION", "int4")
    code, text = fails("--state-dir", tmp_path / "a")
    assert (code, "unknown precision 'int4'" in text) == (1, True)
    monkeypatch.delenv("MAAS_PRECISION")
    assert fails("--max-jobs", "0")[0] == 2
    assert fails("--retention", "nan")[0] == 2
    code, text = fails("--engine", "peft", "--base", "no-such-base", "--state-dir", tmp_path / "a")
    assert (code, "unknown base 'no-such-base'" in text) == (1, True)


def test_port_and_directory_in_use(tmp_path):
    with serving(tmp_path) as (info, child):
        port = info["url"].rsplit(":", 1)[1]
        code, text = fails("--port", port, "--state-dir", tmp_path / "other")
        assert (code, "--port 0" in text) == (1, True)
        code, text = fails("--port", 0, "--state-dir", tmp_path / "state")
        assert (code, f"process {child.pid}" in text, "--state-dir" in text) == (1, True, True)
        assert ws(info["url"], Authorization="Bearer x") == 200  # the first server still works


def test_reset_deletes_state(tmp_path):
    def container(method: str, info: dict) -> int:
        url = f"{info['url']}/maaslocal/mine?restype=container"
        headers = {"Authorization": "Bearer t"}
        return httpx.request(method, url, headers=headers, **PLAIN_HTTP).status_code

    with serving(tmp_path) as (info, _):
        assert container("PUT", info) == 201
    (tmp_path / "state" / "mine.txt").write_text("mine")
    with serving(tmp_path) as (info, _):
        assert container("GET", info) == 200
    with serving(tmp_path, "--reset") as (info, _):
        assert container("GET", info) == 404
        assert (tmp_path / "state" / "mine.txt").exists()


@pytest.mark.parametrize("kind", ["folder", "file_as_folder", "missing_folder"])
def test_ready_file_that_cannot_be_written_is_one_sentence(tmp_path, kind):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    path = {
        "folder": tmp_path / "folder",
        "file_as_folder": tmp_path / "file" / "ready",
        "missing_folder": tmp_path / "no" / "ready",
    }[kind]
    code, text = fails("--port", 0, "--state-dir", tmp_path / "state", "--ready-file", path)
    assert (code, f"the ready file {path} cannot be written" in text) == (1, True)
    assert "Choose another --ready-file" in text


def test_ready_file_that_is_a_pipe_is_refused_and_kept(tmp_path):
    """As root, ``--ready-file /dev/null`` deleted the device."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    code, text = fails("--port", 0, "--state-dir", tmp_path / "state", "--ready-file", path)
    assert (code, f"the ready file {path} is a pipe or a device" in text) == (1, True)
    assert path.is_fifo()


def test_ready_file_whose_folder_disappears_ends_the_server_cleanly(tmp_path):
    """The check at the start has passed, so the fault shows when the server is ready."""
    from maas_client.errors import ConfigError
    from maas_client.local.config import ServerConfig
    from maas_client.local.server import Server
    from maas_client.local.state.store import lock_state_dir

    folder = tmp_path / "ready"
    folder.mkdir()
    config = ServerConfig(
        state_dir=tmp_path / "state", engine="instant", ready_file=folder / "ready.json"
    )
    server = Server(config)
    folder.rmdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        server.run(lambda: pytest.fail("the server said that it was ready"))
    os.close(lock_state_dir(tmp_path / "state"))  # it was released


NAMES = ("lock", "facts.db", "facts.db-wal", "reserve", "children.log", "contents", "runs", "checks",
         "ca.pem", "ca-key.pem", "api-key")  # fmt: skip


@posix
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["", "--reset"])
def test_link_in_state_directory_is_refused_and_not_followed(tmp_path, name, option):
    from maas_client.errors import ConfigError
    from maas_client.local.config import ServerConfig
    from maas_client.local.server import Server

    state, target = tmp_path / "state", tmp_path / "target"
    state.mkdir(mode=0o700)
    target.mkdir() if name in ("contents", "runs", "checks") else target.write_text("precious")
    (state / name).symlink_to(target)
    with pytest.raises(ConfigError, match=f"{name} is a symbolic link to .*, which this user made"):
        Server(ServerConfig(state_dir=state, engine="instant", reset=bool(option), tls=True))
    assert target.is_dir() or target.read_text() == "precious"
    assert (state / name).is_symlink()


@posix
@pytest.mark.parametrize("name", ["lock", "facts.db", "children.log"])
def test_hard_link_in_state_directory_is_refused(tmp_path, name):
    from maas_client.errors import ConfigError
    from maas_client.local.config import ServerConfig
    from maas_client.local.server import Server

    state, target = tmp_path / "state", tmp_path / "target"
    state.mkdir(mode=0o700)
    target.write_text("precious")
    os.link(target, state / name)
    with pytest.raises(ConfigError, match=f"{name} is a hard link"):
        Server(ServerConfig(state_dir=state, engine="instant"))
    assert target.read_text() == "precious"


@posix
def test_links_below_the_folders_are_refused(tmp_path):
    from maas_client.errors import ConfigError
    from maas_client.local.state.files import FileStore, check_state_folder

    files = FileStore(tmp_path)
    run = files.run_folder("a" * 32)
    check_state_folder(tmp_path)
    (run / "log.txt").symlink_to("/etc/passwd")
    (tmp_path / "contents" / ("b" * 32)).symlink_to("/etc/passwd")
    for act in (
        lambda: files.log_path("a" * 32),
        lambda: files.content_path("b" * 32),
        lambda: check_state_folder(tmp_path),
    ):
        with pytest.raises(ConfigError, match="is a symbolic link to /etc/passwd"):
            act()


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_file_of_another_user_is_named(tmp_path):
    from maas_client.errors import ConfigError
    from maas_client.local.state.files import check_state_folder

    (tmp_path / "lock").write_text("")
    os.chown(tmp_path / "lock", 4321, 4321)
    with pytest.raises(ConfigError, match="lock belongs to user 4321"):
        check_state_folder(tmp_path)


@posix
def test_directory_readable_by_others_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    code, text = fails("--port", 0, "--state-dir", tmp_path / "open")
    assert (code, "chmod 700" in text) == (1, True)
