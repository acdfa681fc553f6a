"""A key and a row with a known text, and every place where they must not appear."""

from __future__ import annotations

import io
import json
import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client._settings import child_environment
from maas_client.local.embedded_server import LocalServer, serve

KEY = "canary0key0of0the0server0zq7"
ROW = "canaryrowzq7"
MESSAGES = [{"role": "user", "content": ROW}]


class Surfaces(dict[str, str]):
    """What was printed, raised, logged or written, by its place."""

    def add(self, name: str, text: object) -> None:
        assert name not in self
        self[name] = str(text)

    def add_error(self, name: str, call: Callable[[], object]) -> None:
        """Add all forms of the error that a call raises."""
        try:
            call()
        except Exception as error:
            self.add(f"{name}: message", error)
            self.add(f"{name}: repr", repr(error))
            self.add(f"{name}: hint", getattr(error, "hint", ""))
            self.add(f"{name}: attributes", dict(vars(error)))
            lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
            own = [line for line in lines if "test_canary.py" not in line]
            self.add(f"{name}: traceback with local variables", "".join(own))
            causes = (repr(error.__cause__), repr(error.__context__))
            self.add(f"{name}: causes", causes)
        else:
            raise AssertionError(f"{name} did not fail")


@pytest.fixture(scope="module")
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory, log: io.StringIO) -> Surfaces:
    found = Surfaces()
    folder = tmp_path_factory.mktemp("canary")
    data, broken = folder / "train.jsonl", folder / "broken.jsonl"
    row = {"messages": [*MESSAGES, {"role": "assistant", "content": f"{ROW}!"}]}
    data.write_text((json.dumps(row) + "\n") * 12)
    broken.write_text(
        json.dumps({"messages": [{"role": ROW, "content": ROW, ROW: ROW}], ROW: [ROW]}) + "\n"
        + json.dumps({"messages": [{"role": "user", "content": {ROW: ROW}}]}) + "\n"
        + f'{{"messages": "{ROW}\n'
    )  # fmt: skip
    with serve(engine="instant", state_dir=folder / "state", api_key=KEY) as server:
        _use_client(found, server, data, broken)
        _use_commands(found, server, data, broken)
    found.add("log at level DEBUG", log.getvalue())
    for path in sorted((folder / "state").rglob("*")):
        if path.is_file() and "contents" not in path.parts and path.name != "memory.jsonl":
            found.add(f"state: {path.name} {len(found)}", path.read_bytes().decode("latin-1"))
    return found


def _use_client(found: Surfaces, server: LocalServer, data: Path, broken: Path) -> None:
    found.add("repr of the server", repr(server))
    client = server.client()
    found.add("repr of the client", repr(client))
    found.add("str of the client", str(client))
    found.add("repr of its parts", [repr(value) for value in vars(client).values()])
    found.add("repr of the connection", repr(client._io._connection))  # type: ignore[attr-defined]
    with pytest.raises(Exception) as pickled:  # noqa: PT011 - any: a client has sockets
        pickle.dumps(client)
    found.add("pickle of the client", pickled.value)
    job = client.jobs.wait(client.jobs.create(model="Phi-3-mini", training_data=data, name="kept"))
    found.add("repr of a job", repr(job))
    found.add("JSON of a job", job.model_dump_json())
    found.add("events of a job", [event.model_dump_json() for event in client.jobs.events("kept")])
    found.add("log of a job", client.jobs.logs("kept"))
    found.add("list of data sets", [each.model_dump_json() for each in client.datasets.list()])
    found.add("list of models", [each.model_dump_json() for each in client.models.list()])
    found.add_error("404", lambda: client.jobs.get("nothing"))
    found.add_error("invalid data", lambda: client.datasets.upload(broken))
    found.add_error("unknown deployment", lambda: client.chat.complete("no", MESSAGES))
    with maas.Client.local(url=server.url, api_key=KEY + "x") as other:
        found.add_error("401", lambda: other.jobs.get("kept"))
    with maas.Client.local(url="http://127.0.0.1:9", api_key=KEY) as other:
        found.add_error("no server", lambda: other.jobs.get("kept"))
    with maas.Client.local(url=server.url, api_key=KEY, timeout=1e-6) as other:
        found.add_error("no time", lambda: other.chat.complete("no", MESSAGES))
    found.add_error("invalid key", lambda: maas.Client.local(url=server.url, api_key=f"{KEY}\n"))
    report = maas.validate(broken)
    found.add("report as JSON", report.model_dump_json())
    found.add("repr of the report", repr(report))
    found.add("summary of the report", report.summary())


def _use_commands(found: Surfaces, server: LocalServer, data: Path, broken: Path) -> None:
    environment = {
        **child_environment({}),
        "MAAS_URL": server.url,
        "MAAS_API_KEY": KEY,
        "MAAS_DEBUG": "1",
    }
    page = broken.with_suffix(".html")
    for arguments in (
        ["jobs", "list", "--json"],
        ["jobs", "get", "kept"],
        ["jobs", "get", "nothing", "--json"],
        ["config", "show"],
        ["doctor"],
        ["validate", str(broken), "--html", str(page)],
        ["validate", str(broken), "--json"],
        ["datasets", "convert", str(broken), str(broken.with_suffix(".out.jsonl"))],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "maas_client", *arguments],
            env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        name = " ".join(arguments[:2]) + f" {len(found)}"
        found.add(f"stdout of {name}", done.stdout)
        found.add(f"stderr of {name}", done.stderr)
    if page.exists():
        found.add("report as HTML", page.read_text())


@pytest.mark.slow
def test_there_are_at_least_40_places(surfaces: Surfaces) -> None:
    assert sum(bool(text.strip()) for text in surfaces.values()) >= 40


@pytest.mark.parametrize("canary", [KEY, ROW], ids=["key", "row"])
def test_canary_is_nowhere(surfaces: Surfaces, canary: str) -> None:
    # The messages of a chat are arguments of the caller's own call, so they are in its frames.
    is_own = {
        f"{name}: traceback with local variables" for name in ("unknown deployment", "no time")
    }
    names = [name for name, text in surfaces.items() if canary in text]
    assert [name for name in names if canary == KEY or name not in is_own] == []


def test_deleted_job_and_file_leave_nothing(tmp_path: Path) -> None:
    """Delete means delete on Foundry's routes, except the trained model, which the API cannot delete.

    On azureml the blob of a deleted data asset stays, as on Azure.
    """
    path = tmp_path / "train.jsonl"
    row: dict[str, Any] = {"messages": [*MESSAGES, {"role": "assistant", "content": "x"}]}
    path.write_text((json.dumps(row) + "\n") * 12)
    with serve(engine="instant", state_dir=tmp_path / "state") as server:
        client = server.client(dialect="foundry")
        data = client.datasets.upload(path)
        job = client.jobs.wait(client.jobs.create(model="Ministral-3B", training_data=data))
        client.jobs.delete(job)
        client.datasets.delete(data)
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert [path.name for path in files if ROW.encode() in path.read_bytes()] == ["memory.jsonl"]
