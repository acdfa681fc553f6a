"""The command line as a process: exit codes, one-line errors, streams, imports."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maas_client import cli
from maas_client.errors import (
    ConfigError,
    DatasetError,
    JobFailedError,
    JobTimeoutError,
    NotFoundError,
)

UNUSED_URL = "http://127.0.0.1:1"
HEAVY = {"pydantic", "httpx", "rich", "tenacity", "jsonschema", "azure", "torch", "starlette"}


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "maas_client", *args], capture_output=True, text=True, timeout=60
    )


def test_help_lists_commands_and_imports_nothing_heavy() -> None:
    run_example = (
        "import sys; from maas_client.cli import main; code = main(['--help']);"
        "print(sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", run_example], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("fine-tune", "datasets", "chat", "doctor"))
    loaded = {name.partition(".")[0] for name in eval(done.stderr)}
    assert not loaded & HEAVY


@pytest.mark.parametrize("verb", ["fine-tune", "jobs", "deployments", "datasets", "chat", "models"])
def test_command_help_imports_nothing_heavy(verb: str) -> None:
    run_example = (
        "import sys; from maas_client.cli import main; code = main([sys.argv[1], '--help']);"
        "print(sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", run_example, verb], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--json" in done.stdout
    assert "--backend" in done.stdout
    assert not {name.partition(".")[0] for name in eval(done.stderr)} & HEAVY


def test_only_the_chosen_command_is_imported() -> None:
    run_example = (
        "import sys; from maas_client.cli import main; main(['config']);"
        "print([m for m in sys.modules if m.startswith('maas_client.cli.')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", run_example], capture_output=True, text=True)
    loaded = {name.rpartition(".")[2] for name in eval(done.stderr)}
    assert loaded == {"commands", "config", "_messages", "_output", "_parser"}


@pytest.mark.parametrize(
    "arguments",
    [[], ["tune"], ["jobs"], ["jobs", "list", "--no-such"], ["fine-tune", "a.jsonl"],
     ["jobs", "list", "--backend", "aws"], ["fine-tune", "f", "--model", "m", "--epochs", "two"],
     ["deployments", "create", "a", "--model", "m", "--job", "j"],
     ["plan", "--model", "Phi-4", "--batch-size", "0"], ["plan", "--model", "Phi-4", "--epochs", "-2"],
     ["plan", "--model", "Phi-4", "--lora-r", "0"], ["demo", "--epochs", "0"],
     ["export", "f", "--to", "cluster", "--processes", "0"], ["evaluate", "d", "f", "--max-tokens", "0"]],
)  # fmt: skip
def test_usage_error_exits_with_2_and_names_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "--help" in err


def test_missing_server_is_one_line_with_the_start_command() -> None:
    done = command("jobs", "list", "--url", UNUSED_URL)
    assert done.returncode == 1
    assert not done.stdout
    assert "Start the local server with: maas-client serve" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_traceback_only_with_maas_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = command("jobs", "list", "--url", UNUSED_URL)
    monkeypatch.setenv("MAAS_DEBUG", "1")
    debug = command("jobs", "list", "--url", UNUSED_URL)
    assert "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr
    assert plain.returncode == debug.returncode == 1


def test_azure_identity_errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    parts = ("--subscription-id", "s", "--resource-group", "g", "--workspace", "w")
    done = command("jobs", "list", "--backend", "azureml", *parts)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "az login" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 1),
        (DatasetError("x"), 3),
        (JobFailedError("x"), 4),
        (JobTimeoutError("x"), 1),
        (NotFoundError("x", status=404), 1),
        (ValueError("x"), 1),
    ],
)
def test_exit_code_of_each_error(error: Exception, code: int) -> None:
    assert cli.exit_code(error) == code


def test_unexpected_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maas_client.cli.commands import config

    def broken(_: object) -> int:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(config, "run", broken)
    assert cli.main(["config"]) == 1
    assert capsys.readouterr().err == (
        "error: ZeroDivisionError: one two. This is a bug in maas-client. "
        "Set MAAS_DEBUG=1 to see the traceback.\n"
    )


def test_not_found_suggests_the_list_command() -> None:
    missing = NotFoundError("no endpoint x.", status=404, operation="endpoints.get")
    assert cli._format_error(missing) == (
        "no endpoint x (endpoints.get 404). List the existing names: maas-client deployments list"
    )


@pytest.mark.parametrize("args", [["--json", "config"], ["config", "--json"]])
def test_json_option_before_and_after_the_command(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "backend"


def test_config_reports_origin_and_masks_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAAS_API_KEY", "very-secret-key-1234")
    monkeypatch.setenv("MAAS_WORKSPACE", "mine")
    assert cli.main(["config", "--url", "http://127.0.0.1:9"]) == 0
    out = capsys.readouterr().out
    assert "very-secret" not in out
    assert "...1234" in out
    assert "MAAS_WORKSPACE" in next(ln for ln in out.splitlines() if ln.startswith("workspace"))
    assert "argument" in next(ln for ln in out.splitlines() if ln.startswith("url"))


def test_url_with_another_backend_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["jobs", "list", "--url", UNUSED_URL, "--backend", "azureml"]) == 1
    assert "Leave one of them out" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    run_example = (
        "import sys; from maas_client import cli; from maas_client.cli.commands import config\n"
        "def run(args):\n"
        "    for _ in range(200_000): print('x' * 80)\n"
        "    return 0\n"
        "config.run = run\n"
        "sys.exit(cli.main(['config']))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", run_example], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait(30) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupt_exits_with_130(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    run_example = (
        "import sys, time, pathlib; from maas_client import cli; from maas_client.cli.commands import config\n"
        "def run(args):\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
        "    time.sleep(60)\n"
        "config.run = run\n"
        "sys.exit(cli.main(['config']))"
    )
    child = subprocess.Popen([sys.executable, "-c", run_example, str(sign)], stderr=subprocess.PIPE)
    for _ in range(600):
        if sign.exists():
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert err == b"interrupted\n"


def test_models_list_reports_retirement(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    mini = rows["Phi-3-mini-4k-instruct"]
    assert mini["retired_on"] == "2025-08-30"
    assert mini["replacement"] == "Phi-4-mini-instruct"
    assert mini["tuned_on"] == ["local"]
    assert "azureml" in rows["Phi-4-mini-instruct"]["tuned_on"]


def test_models_show_reports_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "show", "phi-3-mini", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"]["value"] == "Phi-3-mini-4k-instruct"
    assert facts["retired_on"]["source"]["url"].startswith("https://")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("gpt-5", "the location of its weights is unknown"),
        ("Phi-3-small", "remote code"),
        ("Phi-4-mini-instruct", "MAAS_OFFLINE"),
    ],
)
def test_models_pull_rejects_unavailable_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: str, says: str
) -> None:
    monkeypatch.setenv("MAAS_OFFLINE", "1")
    assert cli.main(["models", "pull", model]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["jobs"], ["models"]])
def test_a_command_without_a_subcommand_prints_its_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: maas-client")
    assert "list" in err
    assert err.splitlines()[-1].startswith("error: no command given")


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["fine-tune", "f", "--model", "m", "--lr", "1"], "--learning-rate"),
        (["fine-tune", "f", "--model", "m", "--num_train_epochs", "1"], "--epochs"),
        (["fine-tune", "f", "--model", "m", "--n-epochs", "1"], "--epochs"),
        (["jobs", "create", "f", "--model", "m", "--bs", "1"], "--batch-size"),
        (["jobs", "list", "--backend-name", "x"], "--backend"),
        (["jobs", "lst"], "list"),
        (["model", "list"], "models"),
    ],
)
def test_did_you_mean(
    words: list[str], suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert f"Did you mean {suggestion}?" in capsys.readouterr().err


def test_a_misspelled_variable_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_BAKCEND", "azureml")
    done = command("jobs", "list", "--url", UNUSED_URL)
    assert done.stderr.count("MAAS_BAKCEND is not a setting. Did you mean MAAS_BACKEND?") == 1


def test_completion_covers_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    for shell in ("bash", "zsh"):
        assert cli.main(["--print-completion", shell]) == 0
        script = capsys.readouterr().out
        for word in ("fine-tune", "deployments", "--learning-rate", "--profile", "checkpoints"):
            assert word in script


def test_completion_without_its_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maas_client.cli import _parser

    monkeypatch.setattr(_parser, "find_spec", lambda name: None if name == "shtab" else object())
    assert cli.main(["--print-completion", "bash"]) == 1
    assert "completion]'" in capsys.readouterr().err
    assert cli.main(["--print-completion", "sh"]) == 2


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("fine-tune", "[options] --model MODEL FILE"),
        ("validate", "[options] [FILE ...]"),
        ("chat", "[options] DEPLOYMENT [MESSAGE]"),
        ("jobs", "[options] COMMAND ..."),
        ("deployments create", "[options] (--model MODEL | --job JOB) NAME"),
        ("deployments delete", "[options] (NAME | --overdue)"),
    ],
)
def test_help_begins_with_what_must_be_given(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command.split(), "--help"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"usage: maas-client {command} {usage}"
