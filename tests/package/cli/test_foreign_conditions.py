"""Commands where something of the machine is missing, full, read-only or unusual.

The conditions of one interpreter (its flags, encodings and closed streams) each need a process. For the others
one process is started that has loaded the commands, and each runs in a fork of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import maas_client
from maas_client._settings import child_environment
from maas_client.local.embedded_server import LocalServer, serve

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks, umask and limits of POSIX")
ROW = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
UNWRITABLE = "/proc/none"
"""A folder that cannot be created, not even by root."""


class Condition(NamedTuple):
    """What is unusual, the command, and what comes of it."""

    command: str
    """``upload`` and ``tune`` use a file and the server, other words are a command line."""
    setup: str = ""
    """Python code that runs in the fork, before the command."""
    path: str = "train-{}.jsonl"
    error: str = ""
    """A regular expression for the whole of stderr; empty: the command succeeds."""


DELETED_FOLDER = "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')"
FULL_DISK = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
JUMPS = (
    "import itertools; now, hours = time.time, itertools.count();"
    " time.time = lambda: now() {} 3600 * next(hours)"
)
CONDITIONS = {
    "no HOME": Condition("tune", "del os.environ['HOME']"),
    "empty HOME": Condition("upload", "os.environ['HOME'] = ''"),
    "HOME that cannot be written": Condition("upload", f"os.environ['HOME'] = {UNWRITABLE!r}"),
    "HOME that is a file": Condition("upload", "os.environ['HOME'] = '/dev/null'"),
    "HOME that is not UTF-8": Condition(
        "upload", "os.mkdir(b'h\\xff'); os.environb[b'HOME'] = os.path.abspath(b'h\\xff')"
    ),
    "TMPDIR that does not exist": Condition("tune", f"os.environ['TMPDIR'] = {UNWRITABLE!r}"),
    "XDG folders that cannot be used": Condition(
        "upload", "os.environ |= {'XDG_CONFIG_HOME': '/dev/null', 'XDG_STATE_HOME': '/proc'}"
    ),
    "umask 000": Condition("upload", "os.umask(0)"),
    "umask 077": Condition("upload", "os.umask(0o077)"),
    "umask 777": Condition("upload", "os.umask(0o777)"),
    "path with spaces": Condition("upload", path="my folder/my data.jsonl"),
    "path with an emoji": Condition("upload", path="🐦/träin 🐦.jsonl"),
    "path that is not UTF-8": Condition("tune", path="tr\udcffain.jsonl"),
    "path with a line break": Condition("upload", path="a\nb.jsonl"),
    "deleted working directory": Condition("upload", DELETED_FOLDER),
    "deleted working directory, relative path": Condition(
        "upload", DELETED_FOLDER, path="./train.jsonl",
        error=r".*cannot find \./train\.jsonl: the working directory was deleted.*Change to .*\n",
    ),
    "deleted working directory, settings": Condition(
        "config", DELETED_FOLDER, error=r"error: the working directory was deleted.*\. Change to .*\n"
    ),
    "nothing in PATH": Condition("upload", "os.environ['PATH'] = ''"),
    "time zone that does not exist": Condition("upload", "os.environ['TZ'] = ':/none'; time.tzset()"),
    "terminal without a width": Condition("upload", "os.environ |= {'COLUMNS': '0', 'TERM': ''}"),
    "clock that jumps forwards": Condition("tune", JUMPS.format("+")),
    "clock that jumps backwards": Condition("tune", JUMPS.format("-")),
    "16 open files": Condition("upload", "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))"),
    "full disk for the client": Condition("tune", FULL_DISK),
    "full disk for the server": Condition(
        "serve --engine instant --port 0 --state-dir full", FULL_DISK,
        error=r"error: cannot keep the server's state in .*full: File too large\. Choose another .*\n",
    ),
    "state directory that cannot be created": Condition(
        f"serve --engine instant --port 0 --state-dir {UNWRITABLE}",
        error=r"error: cannot keep the server's state in /proc/none: No such file .*\. Choose another .*\n",
    ),
    "state directory that is a file": Condition(
        "serve --engine instant --port 0 --state-dir /dev/null/x",
        error=r"error: cannot keep the server's state in /dev/null/x: Not a directory\. Choose another .*\n",
    ),
    "full standard output": Condition(
        "models list", "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
        error=r"(?s:.*)error: standard output or a file cannot be written: No space left.* Make room.*\n",
    ),
    "full standard error": Condition("upload", "os.dup2(os.open('/dev/full', os.O_WRONLY), 2)"),
}  # fmt: skip

FORKS = """
import gc, json, os, resource, sys, tempfile, time
import gzip, h11, httpx, msgspec, pydantic, tenacity
import maas_client as maas
from maas_client import Client, validate
from maas_client.__main__ import main
from maas_client.dataset import file_validator, sources
from maas_client.flows.azureml import blob_upload, datasets, jobs
from maas_client.cli.commands import datasets, fine_tune, models, serve
httpx.HTTPTransport().close()  # loads httpcore
folder, results = sys.argv[1], {}
gc.freeze()
for name, setup, arguments in json.load(sys.stdin):
    os.chdir(folder)
    pipes = (os.pipe(), os.pipe())
    pid = os.fork()
    if not pid:
        os.dup2(pipes[0][1], 1)
        os.dup2(pipes[1][1], 2)
        os.closerange(3, 64)
        exec(setup)
        sys.argv[1:] = arguments
        sys.exit(main())
    texts = []
    for read, write in pipes:  # less than a pipe takes, so that one may be read after the other
        os.close(write)
        with open(read, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    results[name] = (os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *texts)
print(json.dumps(results))
"""


class Result(NamedTuple):
    """What a command has left."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as local_server:
        yield local_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conditions")


def make_arguments(
    server: LocalServer, folder: Path, condition: Condition, number: int
) -> list[str]:
    if condition.command not in ("upload", "tune"):
        return condition.command.split()
    path = condition.path.format(number)
    if not path.startswith("./"):
        path = str(folder / path)
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text((json.dumps(ROW).replace("Why", f"Why {number}") + "\n") * 12)
    command = ["datasets", "upload", path]
    if condition.command == "tune":
        command = ["fine-tune", path, "--model", "Phi-3-mini-4k-instruct"]
    return [*command, "--url", server.url, "--json"]


@pytest.fixture(scope="module")
def results(server: LocalServer, folder: Path) -> dict[str, Result]:
    cases = [
        (name, condition.setup, make_arguments(server, folder, condition, number))
        for number, (name, condition) in enumerate(CONDITIONS.items())
    ]
    home = folder / "home"
    home.mkdir()
    environment = {**child_environment({}), "HOME": str(home), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(folder)],
        input=json.dumps(cases), env=environment, text=True, check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    return {name: Result(*values) for name, values in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", CONDITIONS)
def test_condition_has_the_right_result(results: dict[str, Result], name: str) -> None:
    condition, (code, stdout, stderr) = CONDITIONS[name], results[name]
    assert "Traceback" not in stderr
    assert "bug" not in stderr
    if condition.error:
        assert re.fullmatch(condition.error, stderr)
        assert code == 1
        return
    assert code == 0, stderr
    answer = json.loads(stdout)
    assert answer["job"]["status"] == "Completed" if "job" in answer else answer["id"]


INTERPRETERS: dict[str, tuple[list[str], dict[str, str]]] = {
    "optimized, isolated": (["-OO", "-I"], {}),
    "bytes as errors, development mode": (["-bb", "-X", "dev"], {}),
    "ASCII only": ([], {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "LANG=C": ([], {"LANG": "C"}),
}


@pytest.mark.parametrize("name", INTERPRETERS)
def test_interpreter_has_the_right_result(server: LocalServer, folder: Path, name: str) -> None:
    flags, variables = INTERPRETERS[name]
    condition = Condition("upload", path=f"🐦 {name}.jsonl")
    arguments = make_arguments(server, folder, condition, 100 + len(name))
    done = subprocess.run(
        [sys.executable, *flags, "-m", "maas_client", *arguments],
        env={**child_environment({}), **variables}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["id"]


def test_interpreter_without_the_dependencies() -> None:
    root = str(Path(maas_client.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-S", "-m", "maas_client", "config"],
        env={**child_environment({}), "PYTHONPATH": root}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: No module named '\w+' in .*\. Install .*, with pip\.\n", done.stderr
    )
