"""Messages are the library's; the command line says them in its own words, and loses none."""

from __future__ import annotations

import argparse
import ast
import inspect
import logging
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import maas_client as maas
from maas_client import cli
from maas_client.cli import _messages, serve
from maas_client.cli._parser import Parser, add_commands
from maas_client.errors import ConfigError

PACKAGE = Path(maas.__file__).parent
SPEAKING = ("_connect.py", "_client.py", "_settings.py", "_lifetimes.py", "_transport", "flows", "catalog",
            "platforms", "types", "errors.py")  # fmt: skip
"""Where errors that a command can meet are worded. ``dataset/`` names no argument with ``=``."""

NOT_BY_COMMAND = ("httpx.Client", "async with", "with client.deployments", "has no Client",
                  "has no AsyncClient", "<Client", "<AsyncClient", "AsyncClient Client",
                  "httpx.AsyncClient")  # fmt: skip
"""Parts of messages that no command can lead to: of objects, not of verbs."""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("pass allow_retired=True (--allow-retired) or a file.", "pass --allow-retired or a file."),
        ("epochs= and batch_size=; compute= all.", "--epochs and --batch-size; --compute all."),
        ("pass the key as api_key= or MAAS_API_KEY.", "pass the key as MAAS_API_KEY."),
        ("No answer. A longer deadline, in seconds: timeout=.", "No answer."),
        ("Cls was passed: pass another as credential=.", ""),
        ("Pass endpoint=, or set MAAS_X.", "Pass --endpoint, or set MAAS_X."),
        ("Wait for it: client.jobs.wait(job).", "Wait for it: maas-client jobs watch NAME."),
        ("client.fine_tune takes a file.", "maas-client fine-tune takes a file."),
        ("use client.jobs.create.", "use maas-client jobs create."),
        ("run it with Client.local(). Or not.", "run it with --backend local. Or not."),
        ("through Client.azureml (a workspace)", "through --backend azureml (a workspace)"),
        ("so: Client.local(dialect='foundry').", "so: --backend local --dialect foundry."),
        ("extra={...} goes there verbatim.", "--set NAME=VALUE goes there verbatim."),
        ("Leave it out (validation=False).", "Leave it out (--no-validation)."),
        ("data/epochs=3.jsonl: 'model= ' bad", "data/epochs=3.jsonl: 'model= ' bad"),
        ("AZURE_X=1 and name=value stay", "AZURE_X=1 and name=value stay"),
    ],
)  # fmt: skip
def test_arguments_are_flags_and_calls_are_commands(said: str, told: str) -> None:
    assert _messages.to_cli_terms(said) == told


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and those of its verbs, each loaded."""
    if isinstance(parser, Parser) and parser._module:
        module, parser._module = import_module(parser._module), None
        module.add(parser)
    yield parser
    for one in parser._actions:
        if isinstance(one, argparse._SubParsersAction):
            for below in one.choices.values():
                yield from parsers(below)


@pytest.fixture
def root() -> Parser:
    parser = Parser(prog="maas-client")
    add_commands(parser, cli.COMMANDS)
    return parser


def test_every_argument_says_what_it_is(root: Parser) -> None:
    silent = [
        (one.prog, action.dest)
        for one in parsers(root)
        for action in one._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("port", "told"),
    [(8765, "). Stop with Ctrl-C."), (8899, "export MAAS_URL=http://127.0.0.1:8899.")],
)
def test_a_server_elsewhere_says_how_commands_find_it(
    port: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serve._announce(f"http://127.0.0.1:{port}", "instant", PACKAGE, {}, as_json=False)
    assert told in capsys.readouterr().err


def test_every_flag_that_is_named_exists(root: Parser) -> None:
    there = {flag for one in parsers(root) for flag in one._option_string_actions}
    named = {flag.split()[0] for flag in _messages.FLAGS.values() if flag and flag.startswith("--")}
    assert named - there == set()
    assert {"--no-validation", "--format-only", "--data", "--dialect"} <= there


def messages() -> Iterator[tuple[str, str]]:
    """Yield every text of the rooms that speak, with ``{}`` for what is filled in, and its place."""
    files = (f for name in SPEAKING for f in (PACKAGE.glob(name), (PACKAGE / name).rglob("*.py")))
    for file in (file for found in files for file in found if file.is_file()):
        tree = ast.parse(file.read_text("utf-8"))
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
                ]
                silent |= {id(part) for part in node.values}
                text = "".join(map(str, parts))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in silent
            ):
                text = node.value
            else:
                continue
            if " " in text and not any(part in text for part in NOT_BY_COMMAND):
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", text


def test_no_message_keeps_a_name_of_python() -> None:
    left = re.compile(
        r"(?<![\w?&{<])[a-z_]{3,}=(?=[\s,.;:)]|$)|\b[Cc]lient\.[a-z]|=True\b|=False\b"
    )
    bad = {
        place: told
        for place, text in messages()
        if left.search(told := _messages.to_cli_terms(text))
    }
    assert bad == {}


def test_no_message_names_an_argument_without_its_sign() -> None:
    """``name=`` is how the library marks an argument; a bare one would reach the command line as it is."""
    verbs = [maas.Client.fine_tune, maas.Client.azureml, maas.Client.foundry, maas.Client.local]
    known = {name for verb in verbs for name in inspect.signature(verb).parameters if "_" in name}
    known |= {name for name in maas.Hyperparameters.model_fields if "_" in name} | {"delete_after"}
    assert {"max_billed_tokens", "training_data", "lora_alpha", "subscription_id"} <= known
    bare = re.compile(rf"(?<![\w.'\"/{{-])({'|'.join(known)})(?![\w=/'\"}}-]|\.\w)")
    code = re.compile(r"``[^`]*``")
    bad = {place: text for place, text in messages() if bare.search(code.sub("", text))}
    assert bad == {}


def test_a_warning_is_said_in_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    cli._configure_logging(debug=False)
    logging.getLogger("maas_client").warning("Leave %s out", "compute=")
    assert capsys.readouterr().err == "WARNING: Leave --compute out\n"


def test_an_error_keeps_pythons_names_for_python(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigError("max_billed_tokens= needs the file", hint="Pass it as training_data=.")
    assert str(error) == "max_billed_tokens= needs the file. Pass it as training_data=."
    cli._print_error(error, as_json=False)
    assert (
        capsys.readouterr().err == "error: --max-billed-tokens needs the file. Pass it as DATA.\n"
    )
