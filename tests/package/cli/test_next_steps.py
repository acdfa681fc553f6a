"""Every command that a message recommends can be pasted: it exists and reaches the same backend."""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import maas_client as maas
from maas_client import cli
from maas_client._messages import Call, Text
from maas_client.cli import _messages
from maas_client.local.embedded_server import LocalServer, serve

TRAIN = Path(__file__).parents[3] / "examples/data/train.jsonl"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A server that is not at the default address."""
    with serve(engine="instant") as running:
        yield running


@pytest.fixture(params=["azureml", "foundry"])
def options(server: LocalServer, request: pytest.FixtureRequest) -> list[str]:
    """What the first command is given; every other one must have it from a message."""
    return ["--url", server.url, "--dialect", request.param]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        return (code, *capsys.readouterr())

    return call


def commands(text: str) -> list[list[str]]:
    """Return the commands in a text, as words; a sentence's end is not part of one."""
    commands = re.findall(
        r"maas-client ((?:[a-z].*?))(?=\. [A-Z]|; |, then |[.,;]? *$)", text, re.M
    )
    return [shlex.split(command) for command in commands]


def paste(run: Run, err: str, verb: str) -> tuple[int, str, str]:
    [words] = [words for words in commands(err) if " ".join(words).startswith(verb)]
    return run(*words)


def test_from_the_job_to_the_answer(run: Run, options: list[str]) -> None:
    name = f"a-job-{options[-1]}"
    code, _, err = run(
        "jobs", "create", str(TRAIN), "--model", "Phi-3-mini", "--name", name, *options
    )
    assert code == 0, err
    code, _, err = paste(run, err, "jobs watch")
    assert code == 0, err
    code, _, err = paste(run, err, "deployments create")
    assert code == 0, err
    [deployment] = {words[-2] for words in commands(err) if words[0] == "chat"}
    code, out, err = paste(run, err, "chat")
    assert code == 0, err
    assert out.strip()
    assert "simulated answer" in err
    held_out = [str(TRAIN.parent / "validation.jsonl"), "--limit", "3", *options]
    code, out, err = run("evaluate", deployment, *held_out)
    assert code == 0, err
    assert "simulated answers" in err
    assert json.loads(run("evaluate", deployment, *held_out, "--json")[1])["simulated"] is True
    [job] = [row for row in json.loads(run("jobs", "list", "--json", *options)[1]) if row["done"]][
        :1
    ]
    for words, text in {
        ("jobs", "list"): "the instant engine trained nothing in ",
        ("jobs", "list", "--json"): "the instant engine trained nothing in ",
        ("jobs", "show", job["name"]): f"the instant engine trained nothing in {job['name']}\n",
        ("jobs", "watch", job["name"]): f"the instant engine trained nothing in {job['name']}\n",
        ("models", "list", "--mine"): "the instant engine trained no weights for ",
        ("models", "show", job["fine_tuned_model"]): "the instant engine trained no weights for ",
    }.items():
        assert f"simulated: {text}" in run(*words, *options)[2], words
    code, _, err = run("fine-tune", str(TRAIN), "--model", "Phi-3-mini", "--name", name, *options)
    code, out, err = paste(run, err, "deployments create")
    assert code == 0, err


def test_a_deployment_name_that_is_in_use(run: Run, options: list[str], tmp_path: Path) -> None:
    name = f"in-use-{options[-1]}"
    job = [
        "--model",
        "Phi-3-mini",
        "--validation",
        str(TRAIN.parent / "validation.jsonl"),
        *options,
    ]
    tune = [*job, "--deploy", name]
    assert run("fine-tune", str(TRAIN), *tune)[0] == 0
    assert run("fine-tune", str(TRAIN), *tune)[0] == 0  # its model is that of this job

    def count() -> list[int]:
        verbs = ("jobs", "datasets")
        return [len(json.loads(run(verb, "list", "--json", *options)[1])) for verb in verbs]

    before = count()
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(TRAIN.read_bytes().splitlines(keepends=True)[:20]))
    for words in ([str(other)], [str(TRAIN), "--epochs", "2"], [str(TRAIN), "--force-new"]):
        code, _, err = run("fine-tune", *words, *tune)
        assert code == 1
        assert f"deployment '{name}' exists with another model" in err
        assert count() == before, words
    assert run("jobs", "create", str(TRAIN), "--epochs", "2", *job)[0] == 0
    code, _, err = run("fine-tune", str(TRAIN), "--epochs", "2", *tune)
    assert code == 1
    code, out, err = paste(run, err, "deployments create")
    assert code == 0, err
    assert f"{name}-2" in out


def test_a_name_that_does_not_exist(run: Run, options: list[str]) -> None:
    for words, verb in (
        (["jobs", "show", "nothing"], "jobs list"),
        (["chat", "nothing", "Hello"], "deployments list"),
        (["datasets", "show", "nothing"], "datasets list"),
    ):
        code, _, err = run(*words, *options)
        assert code == 1, err
        code, _, err = paste(run, err, verb)
        assert code == 0, err


def test_a_wait_that_ends_too_early(run: Run, options: list[str]) -> None:
    code, out, err = run("jobs", "create", str(TRAIN), "--model", "Phi-4", "--json", *options)
    assert code == 0, err
    name = json.loads(out)["name"]
    code, _, err = run("jobs", "watch", name, *options, "--timeout", "0")
    if code == 1:  # the job had not ended yet
        code, _, err = paste(run, err, "jobs watch")
    assert code == 0, err


def test_an_invalid_file_with_a_blank_in_its_name(
    run: Run, options: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "bad file.jsonl"
    path.write_text('{"messages": []}\n')
    code, _, err = run("fine-tune", str(path), "--model", "Phi-3-mini", *options)
    assert code == 3
    [words] = [words for words in commands(err) if words[0] == "validate"]
    assert "--model=Phi-3-mini-4k-instruct" in words
    assert "--target=local" in words
    code, out, err = run(*words)
    assert code == 3
    assert str(path) in out + err
    source = tmp_path / "some chats.json"
    source.write_text(json.dumps([{"instruction": "a", "output": "b"}] * 3))
    code, _, err = run("datasets", "convert", str(source), str(tmp_path / "new chats.jsonl"))
    assert code == 0
    code, out, err = paste(run, err, "validate")
    assert code in (0, 3)  # three rows may be too few
    assert "new chats.jsonl" in out + err


def test_a_file_of_another_format_names_the_command_that_converts_it(
    run: Run, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "two columns.csv"
    path.write_text("question,answer\n" + "What?,That.\n" * 12)
    for words in (
        ("validate", path.name),
        ("validate", path.name, "--all"),
        ("fine-tune", path.name, "--model", "Phi-3-mini", *options),
    ):
        code, out, err = run(*words)
        assert code == 3
        text = " ".join((out + err).split())
        assert "FILE" not in re.sub("FILE_[A-Z]+", "", text)
        code, _, err = paste(run, re.sub(r"(OUT\.jsonl).*", r"\1", text), "datasets convert")
        assert code == 0, err
        (tmp_path / "OUT.jsonl").unlink()


def test_a_missing_file_has_no_further_problems(run: Run, options: list[str]) -> None:
    for words in (
        ["plan", "nothing.jsonl", "--model", "Phi-4"],
        ["datasets", "upload", "nothing.jsonl"],
    ):
        code, _, err = run(*words, *(options if words[0] == "datasets" else []))
        assert code == 3
        assert "FILE_NOT_FOUND" in err
        assert commands(err) == []


def test_sessions_that_do_not_exist_name_the_list(run: Run, options: list[str]) -> None:
    for verb in ("show", "checkpoints", "complete", "delete"):
        code, _, err = run("sessions", verb, "session_absent", *options)
        assert code == 1
        assert "session_absent was not found" in err
        assert paste(run, err, "sessions list") == (0, "", "there are no sessions\n")
    code, out, _ = run("sessions", "list", "--json", *options)
    assert (code, json.loads(out)) == (0, [])
    code, _, err = run("sessions", "lst", *options)
    assert code == 2
    assert "Did you mean list?" in err


@pytest.mark.parametrize("backend", [[], ["--backend", "foundry"]])
def test_models_list_names_a_model_that_can_be_shown(run: Run, backend: list[str]) -> None:
    code, _, err = run("models", "list", *backend)
    assert code == 0
    assert paste(run, err, "models show")[0] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "azureml", "workspace": "my ws", "subscription_id": "s", "resource_group": "g"},
        {"backend": "foundry", "endpoint": "https://x.openai.azure.com", "cloud": "usgov"},
        {"profile": "work"},
        {"engine": "instant"},
        {},
    ],
)
def test_connection_options_follow_as_given(options: dict[str, str]) -> None:
    error = maas.MaasError("it failed", hint=Text(Call("jobs.logs", "'j 1'")))
    text = (
        "Try: maas-client validate FILE, or maas-client datasets convert A B, or maas-client config"
    )
    with _messages.connection_options(argparse.Namespace(**options)):
        words = commands(_messages.error_hint(error))[0]
        assert _messages.with_connection_options(text) == text  # commands that do not connect
    assert words[:2] == ["jobs", "logs"]
    assert words[-1] == "j 1"
    expected = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", v)]
    assert sorted(words[2:-1]) == sorted(expected)
    assert (
        _messages.error_hint(error) == "maas-client jobs logs 'j 1'"
    )  # nothing is kept afterwards


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for path in Path(maas.__file__).parent.rglob("*.py"):
        if "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Call"
                and node.args
            ):
                yield str(path), node


def test_every_call_in_a_message_is_a_command_that_exists() -> None:
    """``client.jobs.get('x')`` must not become ``maas-client jobs get``, which there is not.

    Sessions are created, trained and loaded by programs only.
    """
    names = set()
    for _, node in _calls():
        constants = [n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)]
        names |= {(str(value), len(node.args) > 1) for value in constants if isinstance(value, str)}
    assert len(names) > 6
    for name, has_argument in sorted(names):
        if name in (
            "sessions.create",
            "sessions.load",
            "sessions.save",
            "sessions.forward_backward",
        ):
            continue
        call = Call(name, "'x'") if has_argument else Call(name)
        words = commands(_messages.to_cli_terms(Text(call)))[0]
        with pytest.raises(SystemExit) as ended:
            _parse([*words[: 2 if words[0] != "fine-tune" else 1], "--help"])
        assert ended.value.code == 0, name


def _parse(words: list[str]) -> None:
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()):
        cli._parse(words)
