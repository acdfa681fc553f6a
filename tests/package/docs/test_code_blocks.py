"""Every block of code of the README and of docs/ runs, in the order of its page, or says why it does not.

A block that needs Azure, a download or minutes has the line ``<!-- not run: REASON -->`` before it. Its Python
must still be valid, and its commands must parse (``test_readme.py``). All other blocks run against the instant
engine in a folder with the files that the pages name.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from maas_client import cli
from maas_client._settings import DEFAULT_URL
from maas_client.local.embedded_server import LocalServer

from .test_readme import PAGES, ROOT

_BLOCK = re.compile(
    r"^(?: *<!-- not run: (?P<reason>[^>]+) -->\n\s*)?(?P<indent> *)```(?P<language>\w*)[^\n]*\n"
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(
    r"^(?:\$ )?(?:maas-client|pip|python|make|az|curl|cat|pre-commit|kubectl) ", re.M
)
_SHELL = {"sh", "console", "bash"}
_CHATS = "examples/data/train.jsonl"


class Block(NamedTuple):
    language: str
    code: str
    reason: str | None
    line: int


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text("utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        code = textwrap.dedent(match["code"])
        language = match["language"]
        if language in ("", "text") and _COMMAND.search(code):
            language = "sh"  # commands in a block without a language
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(language, code, match["reason"], line))
    return found


SETUP = {
    # What a page takes as given, as a reader has it before: the API of the server, and Python.
    "docs/how-to/deployments.md": (
        "foundry",
        "client = maas_server.client(dialect='foundry'); job = tuned_job('gpt-4.1-mini', None)",
    ),
    "docs/how-to/export.md": ("azureml", "job = tuned_job('Phi-4-mini-instruct', 'JOB')"),
}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_blocks_of_a_page_run(
    page: str,
    maas_server: LocalServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    dialect, setup = SETUP.get(page, ("azureml", ""))
    monkeypatch.setenv("MAAS_DIALECT", dialect)

    def tuned_job(model: str, name: str | None) -> Any:
        client = maas_server.client(dialect=dialect)
        return client.jobs.wait(client.jobs.create(model, _CHATS, name=name))

    names: dict[str, Any] = {"__name__": "page", "tuned_job": tuned_job, "maas_server": maas_server}
    exec(setup, names)
    for block in blocks(page):
        place = f"{page}:{block.line}"
        if block.language == "python":
            program = compile(block.code, place, "exec")
            if block.reason is None:
                exec(program, names)
        elif block.language in _SHELL and block.reason is None and " &\n" in block.code:
            code, errors = run_script(block.code)
            assert code == 0, f"{place}\n{errors}"
        elif block.language in _SHELL and block.reason is None:
            for command in shell_commands(block):
                code, expected = run_command(command.replace(DEFAULT_URL, maas_server.url))
                assert code == expected, f"{place}: {command}\n{capsys.readouterr().err}"
        elif block.language == "json":
            json.loads(block.code)
        elif block.language == "toml":
            tomllib.loads(block.code)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.code))
        else:
            assert block.language in ("", "text", *_SHELL), f"{place}: {block.language}"


def test_most_blocks_run() -> None:
    code = [b for page in PAGES for b in blocks(page) if b.language in ("python", *_SHELL)]
    assert len(code) > 30
    assert sum(b.reason is None for b in code) > len(code) * 0.5


def shell_commands(block: Block) -> list[str]:
    lines = block.code.replace("\\\n", " ").splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]  # the others are output
    return [line for line in lines if line.strip() and not line.startswith("#")]


def run_command(command: str) -> tuple[int, int]:
    """Run a command; return its exit code, and the one that its comment names, by default 0."""
    named = re.search(r"# exit code (\d)$", command)
    expected = int(named[1]) if named else 0
    words = shlex.split(command, comments=True)
    if words[0] == "maas-client" and not {"|", ">", "<", "&"} & set(words):
        return cli.main(words[1:]), expected
    code, errors = run_script(command)
    print(errors, file=sys.stderr)
    return code, expected


def run_script(script: str) -> tuple[int, str]:
    """Run commands in a shell of their own; return the exit code, and what they wrote to stderr.

    A script that starts a server has its backend from its own variables.
    """
    folder = shlex.quote(str(Path(sys.executable).parent))
    start = f'set -eo pipefail; PATH={folder}:$PATH; curl() {{ command curl --fail "$@"; }}; '
    if " &\n" in script:
        start += (
            "trap 'kill %1 2>/dev/null || true' EXIT; unset MAAS_URL MAAS_OFFLINE MAAS_DIALECT\n"
        )
    done = subprocess.run(
        ["bash", "-c", start + script],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


def write_files(folder: Path) -> None:
    """Write the files that the pages name."""
    examples = folder / "examples"
    shutil.copytree(ROOT / "examples", examples, ignore=shutil.ignore_patterns("__pycache__"))
    data = examples / "data"
    for name in ("train.jsonl", "chats.jsonl"):
        shutil.copy(data / "train.jsonl", folder / name)
    for name in ("held_out.jsonl", "validation.jsonl"):
        shutil.copy(data / "validation.jsonl", folder / name)
    (folder / "train.jsonl.gz").write_bytes(gzip.compress((data / "train.jsonl").read_bytes()))
    pairs = [
        {"prompt": f"Question {n}?", "chosen": f"Answer {n}.", "rejected": "No."} for n in range(12)
    ]
    alpaca = [{"instruction": f"Say {n}.", "input": "", "output": f"It is {n}."} for n in range(12)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (folder / "alpaca.json").write_text(json.dumps(alpaca))
