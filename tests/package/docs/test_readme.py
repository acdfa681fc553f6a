"""The README and the pages of docs/: code runs, commands parse, links exist, tables are complete."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from maas_client import cli
from maas_client.local.embedded_server import LocalServer

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "README.md").read_text("utf-8")
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *(page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))),
)
COMMANDS = sorted(
    {
        command.strip()
        for page in PAGES
        for groups in re.findall(
            r"`(maas-client [a-z][^`]*)`|^ *(?:\$ )?(maas-client [a-z](?:[^\n]*\\\n)*.*)$",
            (ROOT / page).read_text("utf-8"),
            re.M,
        )
        for command in groups
        if command and "…" not in command and " serve --print-env" not in command
    }
)


def test_readme_program_runs(maas_server: LocalServer) -> None:
    program = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"```\n(\d+ examples.*?)```", TEXT, re.DOTALL)[0].splitlines()
    printed = done.stdout.splitlines()
    assert printed[0] == promised[0]
    assert printed[1] == "Completed on instant"
    assert printed[2].startswith("Chirp! ")


def test_readme_has_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_commands_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = re.split(r" [|>&] ?", command.replace("\\\n", " "))[0]
    words = shlex.split(command.replace("COMMAND", "chat"), comments=True)[1:]
    if words and words[0] in cli.COMMANDS and all(re.fullmatch("[a-z-]+", w) for w in words[:2]):
        words += ["--help"] if len(words) <= 2 else []  # a command mentioned in a sentence
    try:
        cli._parse(words)
        code: object = 0
    except SystemExit as end:
        code = end.code
    assert code == 0, capsys.readouterr().err


def test_pre_commit_hook_is_the_one_of_the_page() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    page = (ROOT / "docs" / "how-to" / "check-data.md").read_text("utf-8")
    config = yaml.safe_load(re.findall(r"```yaml\n(repos:.*?)```", page, re.DOTALL)[0])
    (used,) = config["repos"][0]["hooks"]
    assert used["id"] == hook["id"]
    args = cli._parse([*shlex.split(hook["entry"])[1:], *used["args"], "data/train.jsonl"])
    assert args.quiet
    assert re.search(used["files"], "data/train.jsonl")
    assert re.search(hook["files"], "data/train.jsonl")


def test_feature_table_is_complete() -> None:
    table = TEXT[TEXT.index("## What runs where") : TEXT.index("## The command line")]
    for feature in (
        "Models as a Service", "Models as a Platform", "AI Foundry", "Azure ML", "AI Toolkit", "KAITO",
        "ONNX Runtime", "LoRA", "QLoRA", "PEFT", "DeepSpeed", "ZeRO", "DoRA",
    ):  # fmt: skip
        assert feature in table, feature
    assert "Phi-3-mini" in "\n".join(TEXT.splitlines()[:40])


def test_readme_names_every_public_error() -> None:
    import maas_client

    errors = {
        n
        for n in maas_client._MODULE_OF
        if n.endswith("Error") and n not in ("JobError", "StatusError")
    }
    assert not [name for name in errors if f"`{name}`" not in TEXT and f"maas.{name}" not in TEXT]


GENERATED = {
    f"docs/reference/{name}.md" for name in ("command-line", "settings", "models", "codes/index")
}
"""Pages that exist on the site only (docs/generated_pages.py)."""


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_on_pages_exist(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    missing = [
        link
        for link in links
        if not ((ROOT / page).parent / link).exists()
        and os.path.normpath(os.path.join(os.path.dirname(page), link)) not in GENERATED
    ]
    paths = re.findall(r"`((?:maas_client|tests|benchmarks|docs|schemas|examples)/[\w./]+)`", text)
    missing += [path for path in paths if not (ROOT / path).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    pages = [page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")]
    assert not [page for page in pages if not re.search(rf" {re.escape(page)}$", navigation, re.M)]


def test_every_page_is_linked_from_the_readme_or_the_home_page() -> None:
    home = (ROOT / "docs" / "index.md").read_text("utf-8")
    assert not [
        page
        for page in PAGES
        if page.startswith("docs/")
        and not page.startswith(("docs/index", "docs/reference/"))
        and f"]({page})" not in TEXT
        and f"]({page.removeprefix('docs/')})" not in home
    ]
