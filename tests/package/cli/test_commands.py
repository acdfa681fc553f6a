"""Every command against a running local server."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maas_client import cli
from maas_client.local.embedded_server import LocalServer

EXAMPLES = Path(__file__).parents[3] / "examples" / "data"
TRAIN, VALIDATION = str(EXAMPLES / "train.jsonl"), str(EXAMPLES / "validation.jsonl")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(maas_server: LocalServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command and returns its exit code, stdout and stderr."""

    def command(*args: str) -> tuple[int, str, str]:
        code = cli.main(args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def tuned(run: Run, *options: str) -> dict[str, object]:
    code, out, err = run("fine-tune", TRAIN, "--model", "Phi-3-mini", "--json", *options)
    assert code == 0, err
    result: dict[str, object] = json.loads(out)
    return result


def test_fine_tune_with_deploy_creates_an_answering_deployment(run: Run) -> None:
    code, out, err = run(
        "fine-tune", TRAIN, "--model", "Phi-3-mini", "--validation", VALIDATION,
        "--epochs", "1", "--deploy", "perch",
    )  # fmt: skip
    assert code == 0
    assert "Phi-3-mini -> Phi-3-mini-4k-instruct" in err
    assert "valid_loss" in err
    assert "maas-client chat perch" in err
    assert "Completed" in out
    assert "valid_loss" not in out
    code, out, _ = run("chat", "perch", "What does error E11 mean?")
    assert (code, out) == (0, out)
    assert "Chirp!" in out


def test_fine_tune_again_attaches_to_the_same_job(run: Run) -> None:
    first, second = tuned(run), tuned(run)
    assert first["job"]["name"] == second["job"]["name"]  # type: ignore[index]
    assert second["job"]["attached"] is True  # type: ignore[index]
    assert second["dataset"]["attached"] is True  # type: ignore[index]
    another = tuned(run, "--force-new")
    assert another["job"]["name"] != first["job"]["name"]  # type: ignore[index]


def test_jobs_create_list_show_watch_and_logs(run: Run) -> None:
    code, out, err = run("jobs", "create", TRAIN, "--model", "Phi-4-mini-instruct", "--json")
    assert code == 0
    name = json.loads(out)["name"]
    assert f"jobs watch {name}" in err
    code, out, _ = run("jobs", "watch", name, "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert events[-1]["status"] == "Completed"
    assert any(event["metrics"].get("train_loss") for event in events)
    assert len({event["key"] for event in events}) == len(events)
    assert [row["name"] for row in json.loads(run("jobs", "list", "--json")[1])] == [name]
    assert "Phi-4-mini-instruct" in run("jobs", "list")[1]
    shown = json.loads(run("jobs", "show", name, "--json")[1])
    assert (shown["succeeded"], shown["studio_url"]) == (True, None)
    assert "done" in run("jobs", "logs", name)[1]
    code, out, _ = run("jobs", "watch", name)
    assert code == 0
    assert out.splitlines()[-1] == "Completed"


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_formats_of_a_job_take_its_model_and_its_deployment(run: Run, dialect: str) -> None:
    where = ("--dialect", dialect)
    result: Any = tuned(run, "--deploy", "tickets", *where)
    words = ("--to", "olive", "--data", TRAIN, *where)
    expected = run("export", result["job"]["name"], *words)
    assert expected[0] == 0, expected[2]
    for name in ("tickets", result["job"]["fine_tuned_model"]):
        code, out, err = run("export", name, *words)
        assert (code, out) == (0, expected[1])
        assert f"{name} comes from the job {result['job']['name']}" in err
    code, _, err = run("export", "nothing", *words)
    assert code == 1
    assert "maas-client jobs list" in err


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_jobs_delete_keeps_the_model(run: Run, dialect: str) -> None:
    job = tuned(run, "--dialect", dialect)["job"]
    name, model = job["name"], job["fine_tuned_model"]  # type: ignore[index]
    where = ("--dialect", dialect)
    assert run("jobs", "delete", name, *where) == (0, "", f"deleted {name}\n")
    code, _, err = run("jobs", "delete", name, *where)
    assert code == 1
    assert "maas-client jobs list" in err
    assert model in run("models", "list", "--mine", "--json", *where)[1]
    code, out, err = run("models", "delete", model, "--json", *where)
    if dialect == "foundry":
        assert code == 1
        assert "portal" in err
        return
    assert (code, json.loads(out)) == (0, {"deleted": model})
    assert run("models", "list", "--mine", "--json", *where)[1] == "[]\n"
    assert "maas-client models list" in run("models", "delete", model, *where)[2]


def test_failed_job_exits_with_4(run: Run) -> None:
    nowhere = "azureml://datastores/workspaceblobstore/paths/nowhere.jsonl"
    code, out, err = run("jobs", "create", nowhere, "--model", "Phi-3-mini", "--json")
    assert code == 0, err
    name = json.loads(out)["name"]
    code, _, err = run("jobs", "watch", name)
    assert code == 4
    assert "not found" in err
    assert f"maas-client jobs logs {name}" in err
    assert run("jobs", "watch", name, "--json")[0] == 4


def test_invalid_file_exits_with_3_and_sends_nothing(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"messages": [{"role": "user"}]}\n')
    for command in (
        ("fine-tune", str(broken), "--model", "Phi-3-mini"),
        ("jobs", "create", str(broken), "--model", "Phi-3-mini"),
        ("datasets", "upload", str(broken)),
    ):
        code, out, err = run(*command)
        assert code == 3
        assert not out
        assert "line 1" in err
    assert run("datasets", "list", "--json")[1] == "[]\n"


def test_missing_file_exits_with_3(run: Run, tmp_path: Path) -> None:
    code, _, err = run("fine-tune", str(tmp_path / "none.jsonl"), "--model", "Phi-3-mini")
    assert code == 3
    assert "none.jsonl" in err


@pytest.mark.parametrize(
    ("options", "captured"),
    [
        (["--model", "Phi-9"], "models list"),
        (["--model", "Phi-3-mini", "--method", "Magic"], "QLoRA"),
        (["--model", "Phi-3-mini", "--epochs", "0"], "epochs"),
        (["--model", "Phi-3-mini", "--max-billed-tokens", "5"], "the limit of 5"),
    ],
)
def test_unsupported_options_are_one_line_errors(
    run: Run, options: list[str], captured: str
) -> None:
    code, out, err = run("fine-tune", TRAIN, *options)
    assert code == 1
    assert not out
    assert captured in err.splitlines()[-1]


def test_retired_model_is_rejected_on_azure_before_upload(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ("--subscription-id", "s", "--resource-group", "g", "--workspace", "w")
    code, _, err = run("fine-tune", TRAIN, "--model", "Phi-3-mini", "--backend", "azureml", *parts)
    assert code == 1
    assert "2025-08-30" in err
    assert "Phi-4-mini-instruct" in err


def test_datasets_upload_list_show_and_delete(run: Run) -> None:
    code, out, _ = run("datasets", "upload", TRAIN, "--name", "perch", "--json")
    assert code == 0
    assert json.loads(out)["name"] == "perch"
    assert "uploaded before" in run("datasets", "upload", TRAIN, "--name", "perch")[2]
    heads, row = run("datasets", "list")[1].splitlines()
    assert heads.split() == ["NAME", "VERSION", "BYTES", "CREATED", "AT"], (
        "no status: ARM tells none"
    )
    assert row.split()[::2][:2] == ["perch", str(Path(TRAIN).stat().st_size)]
    assert run("datasets", "upload", TRAIN, "--name", "other", "--dialect", "foundry")[0] == 0
    heads, row = run("datasets", "list", "--dialect", "foundry")[1].splitlines()
    assert heads.split() == ["NAME", "STATUS", "BYTES", "CREATED", "AT"], (
        "no version: files have none"
    )
    assert row.split()[:3] == ["other", "processed", str(Path(TRAIN).stat().st_size)]
    assert "sha256" in run("datasets", "show", "perch")[1]
    code, out, _ = run("datasets", "delete", "perch", "--json")
    assert (code, json.loads(out)) == (0, {"deleted": "perch"})
    assert run("datasets", "show", "perch")[0] == 1


def test_deployments_create_list_show_and_delete(run: Run) -> None:
    job = tuned(run)["job"]["name"]  # type: ignore[index]
    code, out, err = run("deployments", "create", "one", "--job", job)
    assert code == 0, err
    assert "Succeeded" in out
    model = json.loads(run("models", "list", "--mine", "--json")[1])[0]["name"]
    assert run("deployments", "create", "two", "--model", model)[0] == 0
    assert run("models", "show", model)[0] == 0
    listed = json.loads(run("deployments", "list", "--json")[1])
    assert {row["name"] for row in listed} == {"one", "two"}
    code, _, err = run("deployments", "show", "one")
    assert (code, err) == (0, "simulated answers: the instant engine runs no model for one\n")
    assert run("deployments", "list")[2].endswith("no model for two, one\n")
    assert run("deployments", "delete", "two")[0] == 0
    code, _, err = run("deployments", "show", "two")
    assert code == 1
    assert "maas-client deployments list" in err


def test_deployments_delete_overdue(run: Run, tmp_path: Path) -> None:
    result = ("deployments", "create", "brief", "--model", "Phi-3-mini", "--delete-after")
    code, out, err = run(*result, "2h")
    assert code == 0, err
    assert "delete at" in out
    code, _, err = run("deployments", "delete", "--overdue")
    assert (code, err) == (0, "nothing is overdue\n")
    code, out, _ = run("deployments", "delete", "--overdue", "--json")
    assert (code, json.loads(out)) == (0, {"deleted": []})
    code, _, err = run(*result, "soon")
    assert code == 1
    assert "2h, 90m or 1d12h" in err
    for arguments in ((), ("brief", "--overdue")):
        assert run("deployments", "delete", *arguments)[0] == 2


def test_keys_are_masked_without_show(run: Run) -> None:
    tuned(run, "--deploy", "perch")
    code, out, err = run("deployments", "keys", "perch", "--show", "--json")
    keys = json.loads(out)
    assert code == 0
    for args in (("deployments", "keys", "perch"), ("deployments", "keys", "perch", "--json")):
        code, out, err = run(*args)
        assert code == 0
        assert not any(key in out + err for key in keys.values())
        assert keys["primary"][-4:] in out
    for verb in ("show", "list"):
        name = ["perch"] if verb == "show" else []
        out = run("deployments", verb, *name, "--json")[1]
        assert not any(key in out for key in keys.values())
    again = run("deployments", "keys", "perch", "--regenerate", "primary", "--show", "--json")[1]
    assert json.loads(again)["primary"] != keys["primary"]


def test_chat_reads_stdin_and_prints_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned(run, "--deploy", "perch")
    monkeypatch.setattr(sys, "stdin", io.StringIO("What does error E11 mean?\n"))
    code, out, _ = run("chat", "perch", "--json", "--max-tokens", "40", "--system", "Be brief.")
    assert code == 0
    assert "E11" in json.loads(out)["choices"][0]["message"]["content"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("chat", "perch")[0] == 1
    assert run("chat", "perch", "Where do the batteries go?", "--no-stream")[1].startswith("Chirp!")


def test_doctor_reports_the_server(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)["findings"]}
    assert code == 0
    assert findings["server"]["state"] == "ok"
    assert "python" in findings
    code, out, _ = run("doctor", "--model", "Phi-4-reasoning")
    assert code == 1
    assert "Phi-4-reasoning" in out


def test_doctor_without_server_says_how_to_start_one(run: Run) -> None:
    code, out, err = run("doctor", "--url", "http://127.0.0.1:1")
    assert code == 1
    assert "FAIL  server" in out
    assert "maas-client serve" in err


def _wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.maas_training(base="tiny", threads=1)
def test_interrupted_job_continues_and_can_be_cancelled(run: Run) -> None:
    command = [sys.executable, "-m", "maas_client", "fine-tune", TRAIN, "--model", "Phi-3-mini"]
    child = subprocess.Popen(
        [*command, "--epochs", "900"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    name = next(line.split()[1].rstrip(":") for line in child.stderr if line.startswith("job "))
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert f"maas-client jobs watch {name}" in err
    assert "Traceback" not in err
    assert json.loads(run("jobs", "show", name, "--json")[1])["done"] is False
    assert run("jobs", "watch", name, "--timeout", "0.1")[0] == 1
    _wait_until(lambda: run("jobs", "save", name)[0] == 0)  # 1 while it is made ready
    assert run("jobs", "pause", name)[0] == 0
    _wait_until(lambda: json.loads(run("jobs", "show", name, "--json")[1])["status"] == "Paused")
    code, out, err = run("jobs", "resume", name, "--json")
    assert (code, json.loads(out)["done"]) == (0, False)
    assert f"maas-client jobs watch {name}" in err
    assert run("jobs", "cancel", name)[0] == 0
    code, _, err = run("jobs", "watch", name)
    assert code == 4
    assert "Canceled" in err


def test_commands_with_the_foundry_dialect(run: Run) -> None:
    foundry = ("--dialect", "foundry")
    code, out, err = run(
        "fine-tune", TRAIN, "--model", "Ministral-3B", "--deploy", "perch", "--json", *foundry
    )
    assert code == 0, err
    job = json.loads(out)["job"]
    assert job["status"] == "succeeded"
    assert json.loads(run("jobs", "list", "--json", *foundry)[1])[0]["name"] == job["name"]
    assert "succeeded" in run("jobs", "watch", job["name"], *foundry)[1]
    assert "Chirp!" in run("chat", "perch", "What does error E11 mean?", *foundry)[1]
    code, _, err = run("chat", "nobody", "Hello", *foundry)
    assert code == 1
    assert "maas-client deployments list" in err
    assert run("deployments", "delete", "perch", *foundry)[0] == 0


def test_jobs_list_has_one_line_for_each_job_in_80_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = []
    for options in (["--epochs", "2"], ["--method", "DoRA"], ["--name", "n" * 60]):
        code, out, _ = run("jobs", "create", TRAIN, "--model", "Phi-3-mini", "--json", *options)
        assert code == 0
        names.append(json.loads(out)["name"])
    piped = run("jobs", "list")[1]
    assert all(f"{name} " in piped for name in names)
    assert "…" not in piped
    with monkeypatch.context() as terminal:
        terminal.setattr("sys.stdout.isatty", lambda: True)
        code, out, _ = run("jobs", "list")
    header, *lines = out.splitlines()
    assert header.split() == ["NAME", "STATUS", "MODEL", "DATA", "METHOD", "EPOCHS", "AGE"]
    assert len(lines) == 3
    assert max(map(len, [header, *lines])) <= 80
    for name, line in zip(reversed(names[:2]), lines[1:], strict=True):
        assert name.rpartition("-")[2] in line  # the part that differs
        assert "Phi-3-mini" in line
        assert "train" in line
    assert "DoRA" in lines[1]
    assert " 2 " in lines[2]
    for name, line in zip(reversed(names), lines, strict=True):
        shown = line.split()[0]
        assert "…" in shown
        code, out, err = run("jobs", "show", shown, "--json")
        assert code == 0, err
        assert json.loads(out)["name"] == name
        assert run("jobs", "watch", shown)[0] == 0
    for shown, message in (("…", "3 jobs have a name like …"), ("x…y", "no jobs have a name")):
        code, _, err = run("jobs", "show", shown)
        assert code == 1
        assert message in err
    assert run("jobs", "delete", lines[0].split()[0])[0] == 0
    assert names.pop() not in run("jobs", "list")[1]
    code, out, _ = run("jobs", "list", "--wide")
    assert all(name in out for name in names)
    monkeypatch.setenv("COLUMNS", "200")
    assert all(name in run("jobs", "list")[1] for name in names)


def test_jobs_list_on_foundry_names_data_sets(run: Run) -> None:
    code, _, err = run(
        "jobs", "create", TRAIN, "--model", "Phi-3-mini", "--dialect", "foundry", "--epochs", "3"
    )
    assert code == 0, err
    _, out, _ = run("jobs", "list", "--dialect", "foundry")
    assert "file-" not in out
    assert "train" in out
    assert " 3 " in out


@pytest.mark.maas_training(engine="instant")  # a queue in real time
def test_a_queued_job_says_what_it_waits_for(
    maas_server: LocalServer, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    client = maas_server.client()
    first = client.jobs.create("Phi-4", TRAIN, name="first", hyperparameters={"epochs": 1000})
    second = client.jobs.create("Phi-4", TRAIN, name="second")
    for event in client.jobs.events(second):
        if "Waiting for first to end: this server runs 1 job at a time" in event.message:
            break
    else:
        pytest.fail("no event says what the job waits for")
    client.jobs.cancel(second)
    client.jobs.cancel(first)


def test_models_show_suggests_a_name(run: Run) -> None:
    code, _, err = run("models", "show", "Phi-3-mni")
    assert code == 1
    assert "Did you mean Phi-3-mini-4k-instruct" in err


@pytest.mark.parametrize(
    ("command", "suggestion"),
    [
        ("deployments create x --model Phi-3-mni", "Phi-3-mini-4k-instruct or "),
        ("models pull smolm2-135m", "smollm2-135m?"),
        ("plan --model Phi-4 --machine Standard_NC24ads_A100_v5", "Standard_NC24ads_A100_v4?"),
    ],
)
def test_names_that_do_not_exist_have_a_suggestion(run: Run, command: str, suggestion: str) -> None:
    code, _, err = run(*command.split())
    assert code == 1
    assert f"Did you mean {suggestion}" in err


def test_name_of_a_family_suggests_its_models_first(run: Run) -> None:
    code, _, err = run("models", "show", "phi3")
    assert code == 1
    assert "Did you mean Phi-3-mini-4k-instruct or " in err


def test_models_refresh_only_checks(run: Run) -> None:
    code, out, err = run("models", "refresh")
    assert (code, out) == (2, "")
    assert "the following arguments are required: --check" in err
    assert "AGE DAYS" in run("models", "refresh", "--check")[1]


def test_validate_of_a_missing_file_has_no_counts(run: Run) -> None:
    code, out, _ = run("validate", "nothere.jsonl")
    assert code == 3
    assert out.splitlines()[-1] == "nothere.jsonl: NOT VALID; there is no such file"
    assert "--all" not in out


def test_plan_names_the_stand_in_of_a_local_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAAS_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cli.main(["plan", "--model", "Phi-3-mini", "--no-measure"])
    err = capsys.readouterr().err
    assert "Phi-3-mini is not on this machine. A job of the local server would train tiny" in err
    assert "with: maas-client models pull Phi-3-mini-4k-instruct\n" in err
    assert not list(tmp_path.iterdir())


def test_plan_compares_all_machines_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--model", "Phi-4", "--machine", "all", "--epochs", "2"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert not err
    lines = out.splitlines()
    header = next(line for line in lines if line.startswith("MACHINE"))
    assert header.split() == ["MACHINE", "GPUS", "LORA", "DORA", "QLORA", "FULL"]
    [t4] = [line for line in lines if line.startswith("NC4as_T4_v3")]
    assert "no: " in t4
    assert " min" in t4
    assert "estimate" in out
    assert lines[-1].startswith("Smallest machine: ")
    assert cli.main([*words, "--json"]) == 0
    plans = json.loads(capsys.readouterr().out)
    assert len(plans) == out.count("_v") - lines[-1].count("_v")
    assert all("epoch_s" in method for each in plans for method in each["methods"])
