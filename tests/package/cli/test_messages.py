"""Messages of the library, written with flags and commands on the command line."""

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
from maas_client._messages import AnyOf, Argument, Call, Constructor, PythonOnly, Text
from maas_client.cli import _messages
from maas_client.cli._parser import Parser, add_commands
from maas_client.cli.commands import serve
from maas_client.errors import ConfigError
from maas_client.local.config import ServerConfig

PACKAGE = Path(maas.__file__).parent
MODULES = ("_connect", "_client.py", "_settings.py", "_local_server", "_display", "_transport", "flows",
            "catalog", "platforms", "types", "errors.py")  # fmt: skip
"""Modules whose errors a command can show. ``dataset/`` names no argument with ``=``."""

PYTHON_ONLY = ("httpx.Client", "async with", "with client.deployments", "has no Client",
                  "has no AsyncClient", "<Client", "<AsyncClient", "AsyncClient Client",
                  "httpx.AsyncClient")  # fmt: skip
"""Parts of messages about Python objects, which no command can cause."""


@pytest.mark.parametrize(
    ("message", "in_python", "on_the_command_line"),
    [
        (Text("Pass ", Argument("allow_retired", True), " or a file."),
         "Pass allow_retired=True or a file.", "Pass --allow-retired or a file."),
        (Text(Argument("epochs"), " and ", Argument("batch_size"), " only."),
         "epochs= and batch_size= only.", "--epochs and --batch-size only."),
        (Text("Pass the key as ", AnyOf(Argument("api_key"), "MAAS_API_KEY"), "."),
         "Pass the key as api_key= or MAAS_API_KEY.", "Pass the key as MAAS_API_KEY."),
        (Text("No answer.", PythonOnly(" Set a longer ", Argument("timeout"), ".")),
         "No answer. Set a longer timeout=.", "No answer."),
        (Text("Wait for it: ", Call("jobs.wait", "job")),
         "Wait for it: client.jobs.wait(job)", "Wait for it: maas-client jobs watch NAME"),
        (Text("Use ", Call("fine_tune"), " or ", Call("jobs.create")),
         "Use client.fine_tune or client.jobs.create",
         "Use maas-client fine-tune or maas-client jobs create"),
        (Text("Run it with ", Constructor("local"), "."),
         "Run it with Client.local().", "Run it with --backend local."),
        (Text("Use ", Constructor("local", dialect="foundry"), "."),
         "Use Client.local(dialect='foundry').", "Use --backend local --dialect foundry."),
        (Text(Argument("extra", code="{...}"), " is sent unchanged."),
         "extra={...} is sent unchanged.", "--set NAME=VALUE is sent unchanged."),
        (Text("Leave it out: ", Argument("validation", False)),
         "Leave it out: validation=False", "Leave it out: --no-validation"),
        (Text("Pass ", Argument("method", "DPO"), "."), "Pass method='DPO'.", "Pass --method DPO."),
        ("data/epochs=3.jsonl: 'model= ' is invalid", "data/epochs=3.jsonl: 'model= ' is invalid",
         "data/epochs=3.jsonl: 'model= ' is invalid"),
    ],
)  # fmt: skip
def test_arguments_become_flags_and_calls_become_commands(
    message: str, in_python: str, on_the_command_line: str
) -> None:
    assert str(message) == in_python
    assert _messages.to_cli_terms(message) == on_the_command_line


def walk_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and the parsers of its commands, each imported."""
    if isinstance(parser, Parser) and parser._module:
        module, parser._module = import_module(parser._module), None
        module.add(parser)
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from walk_parsers(subparser)


@pytest.fixture
def root_parser() -> Parser:
    parser = Parser(prog="maas-client")
    add_commands(parser, cli.COMMANDS)
    return parser


def test_every_option_has_help(root_parser: Parser) -> None:
    missing = [
        (parser_.prog, action.dest)
        for parser_ in walk_parsers(root_parser)
        for action in parser_._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert missing == []


def test_every_number_and_choice_states_its_default(root_parser: Parser) -> None:
    missing = [
        (parser_.prog, action.option_strings)
        for parser_ in walk_parsers(root_parser)
        for action in parser_._actions
        if action.option_strings and action.nargs != 0 and (action.type or action.choices)
        if not action.required and not isinstance(action, argparse._AppendAction)
        if "default" not in str(action.help) and action.type is not Path
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("port", "expected"),
    [(8765, "). Stop with Ctrl-C."), (8899, "export MAAS_URL=http://127.0.0.1:8899.")],
)
def test_serve_on_another_port_prints_the_variable_for_commands(
    port: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ServerConfig(PACKAGE, engine="instant")
    serve._announce(f"http://127.0.0.1:{port}", config, {}, as_json=False)
    assert expected in capsys.readouterr().err


def test_every_flag_in_the_table_exists(root_parser: Parser) -> None:
    existing = {
        flag for parser_ in walk_parsers(root_parser) for flag in parser_._option_string_actions
    }
    named = {flag.split()[0] for flag in _messages.FLAGS.values() if flag and flag.startswith("--")}
    assert named - existing == set()
    assert {"--no-validation", "--format-only", "--data", "--dialect"} <= existing


def test_every_argument_in_a_message_has_an_entry() -> None:
    names = {
        node.args[0].value
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Argument"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(names) > 20
    with_value = {name for name, _ in _messages._FLAG_VALUES}
    assert names - set(_messages.FLAGS) - with_value == set()


def messages() -> Iterator[tuple[str, str]]:
    """Yield every string of these modules with its place; ``{}`` stands for formatted values."""
    files = (f for name in MODULES for f in (PACKAGE.glob(name), (PACKAGE / name).rglob("*.py")))
    for file in (file for paths in files for file in paths if file.is_file()):
        tree = ast.parse(file.read_text("utf-8"))
        ignored = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
                ]
                ignored |= {id(part) for part in node.values}
                text = "".join(map(str, parts))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in ignored
            ):
                text = node.value
            else:
                continue
            if " " in text and not any(part in text for part in PYTHON_ONLY):
                yield f"{file.relative_to(PACKAGE)}:{node.lineno}", text


def test_plain_messages_have_no_python_terms() -> None:
    """A message that names an argument or a call is a ``Text``, which the command line can render."""
    python_terms = re.compile(
        r"(?<![\w?&{<])[a-z_]{3,}=(?=[\s,.;:)]|$)|\b[Cc]lient\.[a-z]|=True\b|=False\b"
    )
    failures = {place: text for place, text in messages() if python_terms.search(text)}
    assert failures == {}


def test_messages_mark_every_argument() -> None:
    """An argument without ``=`` would be shown with its Python name on the command line."""
    verbs = [maas.Client.fine_tune, maas.Client.azureml, maas.Client.foundry, maas.Client.local]
    parameter_names = {
        name for verb in verbs for name in inspect.signature(verb).parameters if "_" in name
    }
    parameter_names |= {name for name in maas.Hyperparameters.model_fields if "_" in name} | {
        "delete_after"
    }
    assert {
        "max_billed_tokens",
        "training_data",
        "lora_alpha",
        "subscription_id",
    } <= parameter_names
    unmarked = re.compile(rf"(?<![\w.'\"/{{-])({'|'.join(parameter_names)})(?![\w=/'\"}}-]|\.\w)")
    code = re.compile(r"``[^`]*``")
    failures = {place: text for place, text in messages() if unmarked.search(code.sub("", text))}
    assert failures == {}


def test_log_warnings_use_flags(capsys: pytest.CaptureFixture[str]) -> None:
    cli._configure_logging(debug=False)
    logging.getLogger("maas_client").warning("Leave out %s, %d", Text(Argument("compute")), 3)
    assert capsys.readouterr().err == "WARNING: Leave out --compute, 3\n"


def test_errors_have_python_names_in_python_and_flags_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = Text(Argument("max_billed_tokens"), " needs the file")
    hint = Text("Pass it as ", Argument("training_data"), ".")
    error = ConfigError(message, hint=hint)
    assert str(error) == "max_billed_tokens= needs the file. Pass it as training_data=."
    cli._print_error(error, as_json=False)
    output = capsys.readouterr().err
    assert output == "error: --max-billed-tokens needs the file. Pass it as DATA.\n"
