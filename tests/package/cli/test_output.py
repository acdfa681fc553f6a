"""Output of the command line: errors as JSON, one-line usage errors, no control characters."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maas_client import cli
from maas_client.cli import _follow, _output
from maas_client.errors import NotFoundError
from maas_client.types import Job, JobEvent

UNUSED_URL = "http://127.0.0.1:1"
TRAIN = str(Path(__file__).parents[3] / "examples" / "data" / "train.jsonl")


@pytest.mark.parametrize(
    ("command", "code", "kind"),
    [(["jobs", "list", "--url", UNUSED_URL], 1, "TransportError"),
     (["jobs", "lst"], 2, "ConfigError"),
     (["fine-tune", TRAIN, "--model", "Phi-5"], 1, "ConfigError")],
)  # fmt: skip
def test_json_error_is_one_object(
    command: list[str], code: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command) == code
    plain = capsys.readouterr()
    assert plain.err.splitlines()[-1].startswith("error: ")
    assert cli.main([*command, "--json"]) == code
    out, err = capsys.readouterr()
    assert not out
    output = json.loads(err.splitlines()[-1])["error"]
    assert {"type", "message", "hint"} <= set(output)
    assert output["type"] == kind


def test_json_error_has_status_code_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    cli._print_error(
        NotFoundError("no such job", status=404, code="NotFound", operation="jobs.get"),
        as_json=True,
    )
    output = json.loads(capsys.readouterr().err)["error"]
    assert output["status"] == 404
    assert output["code"] == "NotFound"
    assert output["hint"] == "List the existing names: maas-client jobs list"


def test_usage_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["jobs", "lst"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "Try: maas-client jobs --help" in err


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [("jobs watch x --frobnicate", "--frobnicate", "Try: maas-client jobs watch --help"),
     ("jobs watch --frobnicate", "JOB; unrecognized arguments: --frobnicate",
      "Try: maas-client jobs watch --help"),
     ("jobs watch x --timout=5", "--timout=5",
      "Did you mean --timeout? Try: maas-client jobs watch --help"),
     ("fine-tune t --modle x --batch_size 4", "--model; unrecognized arguments: --modle --batch_size",
      "Did you mean --model and --batch-size? Try: maas-client fine-tune --help"),
     ("jobs --jsn list", "--jsn", "Did you mean --json? Try: maas-client jobs --help"),
     ("jobs list more", "more", "Try: maas-client jobs list --help"),
     ("jobs lst", "lst", "Did you mean list? Try: maas-client jobs --help"),
     ("jobs list --backend azurml", "azurml",
      "Did you mean azureml? Try: maas-client jobs list --help"),
     ("export t --to olives", "olives", "Did you mean olive? Try: maas-client export --help"),
     ("finetune t", "finetune", "Did you mean fine-tune? Try: maas-client --help"),
     ("train t", "train", "Did you mean fine-tune? Try: maas-client --help"),
     ("deployments rm x", "rm", "Did you mean delete? Try: maas-client deployments --help"),
     ("jobs stop x", "stop", "Did you mean cancel? Try: maas-client jobs --help"),
     ("version", "version", "Did you mean --version? Try: maas-client --help"),
     ("-v", "no command given: validate", "Try: maas-client --help"),
     ("-v", "unrecognized arguments: -v", "Try: maas-client --help"),
     ("jobs", "no command given: create, list", "Try: maas-client jobs --help"),
     ("jobs list --limit all", "'all' is not a whole number", "Try: maas-client jobs list --help")],
)  # fmt: skip
def test_usage_error_names_help_and_suggestions(
    command: str, message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command.split(), "--json"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert message in error["message"]
    assert error["hint"] == hint


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("plain\nlines\n", "plain\nlines\n"),
     ("  0%|  | 0/2\r 50%|# | 1/2\r100%|##| 2/2\ndone\n", "100%|##| 2/2\ndone\n"),
     ("a\x1b[2J\x1b]0;title\x07b", "ab"), ("a\x00\x9bb\ttab", "a\\x00\\x9bb\ttab"),
     ("one\r\ntwo\r\n", "one\ntwo\n")],
)  # fmt: skip
def test_strip_control_chars(raw: str, expected: str) -> None:
    assert _output.strip_control_chars(raw) == expected


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_chat_strips_control_chars_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maas_client.cli.commands import chat

    assert chat._sanitize("a\x1b[2Jb") == "a\x1b[2Jb"
    monkeypatch.setattr(sys, "stdout", _Terminal())
    assert chat._sanitize("a\x1b[2Jb") == "ab"


def test_interrupted_fine_tune_says_how_to_resume(
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = argparse.Namespace(json=False)
    job = Job(id="j", name="mine", status="Running", done=False, succeeded=False)

    def interrupted() -> None:
        with _follow.follow_job(args, next_step="deploys perch") as printer:
            printer.on_job(job)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    err = capsys.readouterr().err
    assert "Run the same command again: it attaches to the job and then deploys perch." in err
    assert "maas-client jobs cancel mine" in err


def test_line_printer_limits_losses_and_repeats_no_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def metric(step: int, **losses: float) -> JobEvent:
        numbers = {"train_loss": 1.0, **losses}
        return JobEvent(key=str(step), type="metrics", message=f"step {step}", metrics=numbers)

    def status(word: str) -> JobEvent:
        return JobEvent(key=word, type="status", message=word, status=word)

    job = Job(id="j", name="mine", status="Running", done=False, succeeded=False)
    printer = _follow._LinePrinter(sys.stderr, quiet_s=3600)
    printer.on_job(job)
    for event in (
        status("Running"), *(metric(n) for n in range(1, 5)), metric(5, valid_loss=2.0), metric(6),
        metric(7), JobEvent(key="m", type="message", message="the end"), metric(8), status("Completed"),
    ):  # fmt: skip
        printer.on_event(event)
    output = capsys.readouterr().err.splitlines()
    assert output == [
        "job mine: Running",
        "step 1",
        "step 5",
        "step 7",
        "the end",
        "step 8",
        "Completed",
    ]
    printer = _follow._LinePrinter(sys.stderr, quiet_s=3600)
    printer.on_job(job.model_copy(update={"status": "Completed"}))
    for event in (metric(1), status("Completed")):
        printer.on_event(event)
    assert capsys.readouterr().err.splitlines()[-2:] == ["step 1", "Completed"]


@pytest.mark.parametrize(
    ("direct_url", "command"),
    [
        (None, "pip install 'maas-client[local]'"),
        ({"url": "file:///a/x.whl", "archive_info": {}}, "pip install 'maas-client[local]'"),
        ({"url": "file:///a%20b", "dir_info": {}}, "pip install '/a b[local]'"),
        ({"url": "file:///a", "dir_info": {"editable": True}}, "pip install -e '/a[local]'"),
    ],
)
def test_install_command_names_the_folder_of_the_installation(
    direct_url: object, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "maas_client-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: maas-client\nVersion: 1\n")
    if direct_url is not None:
        (folder / "direct_url.json").write_text(json.dumps(direct_url))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    text = "Install it: pip install 'maas-client[local]'. Or not."
    assert _output.adapt_install_command(text) == f"Install it: {command}. Or not."


@pytest.mark.parametrize(
    ("target", "is_noted"),
    [((), True), (("--target", "foundry"), True), (("--target", "local"), False)],
)
def test_validate_notes_a_retired_model(target: tuple[str, ...], is_noted: bool) -> None:
    run = [sys.executable, "-m", "maas_client", "validate", TRAIN, "--json", *target]
    plain = subprocess.run(run, capture_output=True, text=True)
    named = subprocess.run([*run, "--model", "Phi-3-mini"], capture_output=True, text=True)
    assert ("was retired by Azure on 2025-08-30" in named.stderr) is is_noted
    assert "retired" not in plain.stderr
    assert named.returncode == plain.returncode == 0
    assert set(json.loads(named.stdout)) == set(json.loads(plain.stdout))


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe of POSIX")
@pytest.mark.parametrize(
    "verb", [("models", "list"), ("config",), ("doctor",), ("validate", TRAIN)]
)
def test_a_reader_that_goes_away_is_no_error(verb: tuple[str, ...]) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "maas_client", *verb], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    child.wait(60)
    assert b"Traceback" not in err
    assert b"Broken pipe" not in err
    assert b"BrokenPipe" not in err


def test_validate_html_and_show_mask_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    command = [
        "validate",
        TRAIN,
        "--target",
        "local",
        "--html",
        str(page),
        "--show-mask",
        "--rows",
        "1",
    ]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    assert "⟦" in out
    assert f"wrote {page}" in err
    assert "<html" in page.read_text("utf-8")
    assert ": valid;" in out[out.rindex("⟦") :]
    command[1] = str(tmp_path / "bad.jsonl")
    Path(command[1]).write_text(Path(TRAIN).read_text("utf-8") + "{\n", "utf-8")
    assert cli.main(command) == 3
    out = capsys.readouterr().out
    assert "error JSON_CUT_SHORT" in out
    assert "NOT VALID;" in out[out.rindex("⟦") :]
    assert cli.main([*command, "--json"]) == 3
    [row] = json.loads(capsys.readouterr().out)
    assert row["line"] == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("validate FILE --in-place", "--in-place has no effect without --fix. Add --fix OUT"),
        ("validate FILE --drop", "--drop has no effect without --fix"),
        ("validate FILE --rows 4", "--rows has no effect without --show-mask"),
        ("validate FILE --show-mask --fix OUT", "--fix has no effect with --show-mask. Leave out --fix"),
        ("validate FILE --show-mask --ignore PII_EMAIL", "--ignore has no effect with --show-mask"),
        ("validate --explain JSON_SYNTAX --model Phi-4", "--model has no effect with --explain"),
        ("validate FILE --hours 3 --price-training 3", "--hours has no effect without --price-hosting"),
        ("validate FILE --hours -3 --price-hosting 3", "--hours must be a number from 0 up, not -3.0"),
        ("validate FILE --price-hosting nan", "--price-hosting must be a number from 0 up, not 'nan'"),
        ("validate FILE --fix=", "--fix is empty. Name a file."),
        ("validate FILE --model=", "--model is empty. Pass a value, or leave out --model."),
        ("validate --explain=", "--explain is empty."),
        ("validate FILE --price-training 1e400", "--price-training must be at most 1,000,000,000,000"),
        ("validate FILE --price-hosting 1 --hours 1e300", "--hours must be at most 1,000,000,000,000"),
        ("plan --model Phi-4 --machine=", "--machine is empty."),
        ("jobs list --url=", "--url is empty."),
        ("--profile= jobs list", "--profile is empty."),
        ("jobs create FILE --model Phi-4 --report-to=", "--report-to is empty."),
        ("export x --to onnx --out=", "--out is empty."),
        ("deployments create x --job=", "--job is empty."),
        ("datasets upload FILE --name a:b", "'a:b' is not a valid name. Use up to 255 letters"),
        ("datasets upload FILE --name é", "'é' is not a valid name."),
        ("jobs create FILE --model Phi-4 --name a/b", "'a/b' is not a valid job name."),
        ("jobs create FILE --model gpt-4.1 --dialect foundry --name é", "'é' is not a valid job name."),
        ("jobs show ", "an empty text is not a job. Pass its name or its id."),
        ("chat d hi --temperature nan", "--temperature must be a number, not nan"),
        ("datasets upload FILE --name=", "--name is empty. Choose a name, or leave out --name."),
        ("validate FILE --currency EUR", "--currency has no effect without a price"),
        ("validate FILE --explain JSON_SYNTAX", "--explain reads no file"),
        ("validate FILE --target local --backend azureml", "--target is local, but --backend is"),
        ("validate FILE --ignore QUALITY_* --warn QUALITY_NUL", "is in --ignore and in --warn"),
        ("datasets convert FILE x.jsonl --column a=b --column a=c", "one key is given two names in --column"),
        ("datasets split FILE --azure-split --by row", "--by has no effect with --azure-split"),
        ("datasets split FILE --no-shuffle --seed 3", "--seed has no effect with --no-shuffle"),
        ("fine-tune FILE --model Phi-4 --set a=1 --set a=2", "--set a is given twice"),
        ("fine-tune FILE --model Phi-4 --method LoRA --set method=DoRA", "--method is given twice"),
        ("fine-tune FILE --model Phi-4 --warmup-steps 3 --warmup-ratio 0.1",
         "--warmup-ratio has no effect with --warmup-steps"),
        ("export FILE --to cluster --model Phi-4 --lora-r 8 --set lora_r=4", "--lora-r is given twice"),
        ("export FILE --to olive --model Phi-4 --base x", "--base has no effect with --to olive"),
        ("export FILE --to olive --model Phi-4 --public", "--public has no effect without --push-to"),
        ("export FILE --to olive --model Phi-4 --validation x --no-validation",
         "--validation has no effect with --no-validation"),
        ("export model --to onnx --epochs 3", "--epochs has no effect with --to onnx"),
        ("export model --to onnx --data x", "--data has no effect with --to onnx"),
        ("export job --to olive --ignore X", "there is no file job, and an existing job has its own"),
        ("plan --model Phi-4 --method full --lora-r 4", "--lora-r has no effect with --method Full"),
        ("plan --model Phi-4 --method full --lora-r 8", "--lora-r has no effect with --method Full"),
        ("--backend local plan --model Phi-4", "--backend has no effect on a command that connects to no"),
        ("--url http://127.0.0.1:1 validate FILE", "--url has no effect on a command that connects to no"),
        ("validate --explain JSON_SYNTAX --backend local", "--backend has no effect with --explain"),
        ("validate FILE --show-mask --backend local", "--backend has no effect with --show-mask"),
        ("validate FILE --rows 3", "--rows has no effect without --show-mask"),
        ("validate FILE --quiet --json", "--quiet has no effect with --json"),
        ("datasets split FILE --no-shuffle --seed 0", "--seed has no effect with --no-shuffle"),
        ("datasets split FILE --url http://127.0.0.1:1", "--url has no effect on a command that connects"),
        ("models list --workspace x", "--workspace has no effect without --mine. Leave out --workspace,"),
        ("models list --url http://127.0.0.1:1", "--url has no effect without --mine"),
        ("models show Phi-4 --endpoint x", "--endpoint has no effect for Phi-4, a model of the catalog"),
        ("models refresh --check --backend local", "--backend has no effect on a command that connects"),
        ("export FILE --to olive --model Phi-4 --keep", "--keep has no effect with "),
        ("export model --to onnx --url http://127.0.0.1:1", "--url has no effect with --to onnx, which reads"),
        ("export model --to onnx --cloud public", "--cloud has no effect with --to onnx, which reads"),
        ("models pull tiny --from x", "--from has no effect with tiny"),
        ("evaluate d FILE --json --answers 3", "--answers has no effect with --json"),
        ("demo --backend azureml", "the demo starts a server of its own"),
        ("serve --backend azureml", "serve starts the local server, but --backend is azureml"),
        ("serve --url http://127.0.0.1:1", "--url has no effect on a server that is started"),
        ("serve --engine instant --threads 2", "--threads has no effect with the engine instant"),
        ("serve --engine instant --base tiny", "--base has no effect with the engine instant"),
        ("serve --print-env", "--print-env has no effect without --proxy"),
        ("jobs list --workspace x", "--workspace has no effect with the backend local"),
        ("jobs list --cloud china", "--cloud has no effect with the backend local"),
        ("jobs list --backend azureml --endpoint x", "add --backend foundry"),
        ("jobs list --backend foundry --dialect foundry", "--dialect has no effect with the backend"),
        ("jobs list --backend azureml --keep", "--keep has no effect with the backend azureml"),
        ("jobs list --backend azureml --resource-id x --workspace y", "the workspace is given twice"),
    ],
)  # fmt: skip
def test_option_without_effect_is_refused(
    command: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAAS_URL", UNUSED_URL)
    assert cli.main([TRAIN if word == "FILE" else word for word in command.split(" ")]) == 1
    assert message in capsys.readouterr().err


def _leaf_parsers(parser: cli.Parser) -> Iterator[cli.Parser]:
    parser.load()
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for group in groups:
        for subparser in group.choices.values():
            yield from _leaf_parsers(subparser)
    if not groups:
        yield parser


def test_backend_is_never_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backend that is not configured is an error of each command, or the command refuses the option."""
    for name in ("MAAS_ENDPOINT", "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    more_words = {"deployments create": ["--job", "x"], "deployments delete": ["x"], "chat": ["hi"]}
    messages = {}
    for parser in _leaf_parsers(cli.build_parser()):
        command = parser.prog.partition(" ")[2]
        if command in ("config", "validate", "models list"):  # need no connection to honour it
            continue
        required = [a for a in parser._actions if a.required and a.dest != "files"]
        words = [*command.split(" "), *(word for action in required for word in _words(action))]
        words += more_words.get(command, [])
        assert cli.main([*words, "--backend", "foundry"]) == 1, words
        messages[command] = capsys.readouterr().err
    refusal = re.compile("--backend|--endpoint|the backend foundry|serverless job stay on Azure")
    assert {c: m for c, m in messages.items() if not refusal.search(m)} == {}
    assert len(messages) > 30


def test_models_list_has_those_that_the_backend_tunes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list", "--json"]) == 0
    catalog = json.loads(capsys.readouterr().out)
    assert cli.main(["models", "list", "--json", "--backend", "foundry"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == [row for row in catalog if "foundry" in row["tuned_on"]]
    assert listed != catalog


def _words(action: argparse.Action) -> list[str]:
    if action.nargs == 0:
        return [action.option_strings[-1]]
    value = TRAIN if action.metavar in ("FILE", "DATA") else "x"
    if action.choices or "model" in action.dest:
        value = next(iter(map(str, action.choices or ["Phi-4"])))
    return [*action.option_strings[-1:], value]


@pytest.mark.parametrize(
    "command",
    [
        "validate FILE --target local --html PIPE",
        "validate FILE --target local --fix PIPE",
        "datasets convert FILE PIPE",
        "datasets split FILE --train PIPE --validation VALIDATION",
    ],
)
def test_pipes_and_devices_are_not_replaced_by_files(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As root, a report that was written to /dev/full replaced the device."""
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    words = {"FILE": TRAIN, "PIPE": str(pipe), "VALIDATION": str(tmp_path / "v.jsonl")}
    assert cli.main([words.get(word, word) for word in command.split()]) == 1
    assert f"{pipe} is a pipe or a device, which cannot be replaced" in capsys.readouterr().err
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate d FILE --answers -1", "'-1' is not a whole number of at least 0"),
        ("jobs watch x --timeout -1", "'-1' is not a number of seconds of at least 0"),
        ("jobs watch x --timeout nan", "'nan' is not a number of seconds"),
        ("fine-tune FILE --model Phi-4 --timeout soon", "'soon' is not a number of seconds"),
    ],
)
def test_number_out_of_range_is_wrong_usage(
    command: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAAS_URL", UNUSED_URL)
    assert cli.main([TRAIN if word == "FILE" else word for word in command.split()]) == 2
    assert message in capsys.readouterr().err


def test_config_reports_studio_config_as_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MAAS_SUBSCRIPTION_ID", "AZURE_SUBSCRIPTION_ID", "MAAS_RESOURCE_GROUP",
                 "AZURE_RESOURCE_GROUP", "MAAS_WORKSPACE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    config = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert cli.main(["config", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["workspace"]["value"], rows["subscription_id"]["value"]) == ("w", "s")
    assert rows["resource_group"]["origin"] == str(tmp_path / "config.json")


def test_plan_without_torch_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maas_client.local.planning import measure

    monkeypatch.setattr(measure, "find_spec", lambda name: None)
    assert cli.main(["plan", TRAIN, "--model", "Phi-3-mini"]) == 1
    err = capsys.readouterr().err
    assert "[local]" in err
    assert "--no-measure" in err


def test_failed_sign_in_reports_the_cause() -> None:
    from maas_client._transport.auth import _describe_failure

    text = """DefaultAzureCredential failed to retrieve a token from the included credentials.
Attempted credentials:
\tEnvironmentCredential: Authentication failed: HTTPSConnection: Failed to resolve 'login.microsoftonline.com'
\tAzureCliCredential: Azure CLI not found on path"""
    output = _describe_failure(RuntimeError(text))
    assert output.startswith("DefaultAzureCredential failed")
    assert "Failed to resolve" in output
    assert "not found on path" not in output
    assert _describe_failure(RuntimeError()) == "RuntimeError"


def test_unknown_deepspeed_stage_reports_the_bounds() -> None:
    from maas_client.errors import ConfigError
    from maas_client.local.resources.training_config import parse_hyperparameters

    with pytest.raises(ConfigError, match="at least 1, at most 3"):
        parse_hyperparameters({"apply_deepspeed": True, "deepspeed_stage": 4})
