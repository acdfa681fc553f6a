"""Every verb of the command line against a running local server."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from maas_client import cli
from maas_client.local.embed import LocalServer

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
TRAIN, VALIDATION = str(EXAMPLES / "train.jsonl"), str(EXAMPLES / "validation.jsonl")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(maas_server: LocalServer, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command and returns its exit code, stdout and stderr."""

    def command(*args: str) -> tuple[int, str, str]:
        code = cli.main(args)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def tuned(run: Run, *more: str) -> dict[str, object]:
    code, out, err = run("fine-tune", TRAIN, "--model", "Phi-3-mini", "--json", *more)
    assert code == 0, err
    made: dict[str, object] = json.loads(out)
    return made


def test_a_file_becomes_a_deployment_that_answers(run: Run) -> None:
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


def test_the_same_command_again_attaches_to_the_same_job(run: Run) -> None:
    first, second = tuned(run), tuned(run)
    assert first["job"]["name"] == second["job"]["name"]  # type: ignore[index]
    assert second["job"]["attached"] is True  # type: ignore[index]
    assert second["dataset"]["already_there"] is True  # type: ignore[index]
    another = tuned(run, "--force-new")
    assert another["job"]["name"] != first["job"]["name"]  # type: ignore[index]


def test_jobs_are_created_listed_shown_watched_and_read(run: Run) -> None:
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
    assert json.loads(run("jobs", "show", name, "--json")[1])["succeeded"] is True
    assert "done" in run("jobs", "logs", name)[1]
    code, out, _ = run("jobs", "watch", name)
    assert code == 0
    assert out.splitlines()[-1] == "Completed"


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_a_job_is_deleted_and_its_model_stays(run: Run, dialect: str) -> None:
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


def test_a_job_that_fails_is_exit_code_4(run: Run) -> None:
    nowhere = "azureml://datastores/workspaceblobstore/paths/nowhere.jsonl"
    code, out, err = run("jobs", "create", nowhere, "--model", "Phi-3-mini", "--json")
    assert code == 0, err
    name = json.loads(out)["name"]
    code, _, err = run("jobs", "watch", name)
    assert code == 4
    assert "not found" in err
    assert f"maas-client jobs logs {name}" in err
    assert run("jobs", "watch", name, "--json")[0] == 4


def test_an_invalid_file_is_exit_code_3_and_nothing_is_sent(run: Run, tmp_path: Path) -> None:
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


def test_a_missing_file_is_exit_code_3(run: Run, tmp_path: Path) -> None:
    code, _, err = run("fine-tune", str(tmp_path / "none.jsonl"), "--model", "Phi-3-mini")
    assert code == 3
    assert "none.jsonl" in err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "Phi-9"], "models list"),
        (["--model", "Phi-3-mini", "--method", "Magic"], "QLoRA"),
        (["--model", "Phi-3-mini", "--epochs", "0"], "epochs"),
        (["--model", "Phi-3-mini", "--max-billed-tokens", "5"], "5 allowed"),
    ],
)
def test_what_cannot_be_is_one_sentence(run: Run, more: list[str], said: str) -> None:
    code, out, err = run("fine-tune", TRAIN, *more)
    assert code == 1
    assert not out
    assert said in err.splitlines()[-1]


def test_a_retired_model_is_refused_on_azure_before_anything_is_sent(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ("--subscription-id", "s", "--resource-group", "g", "--workspace", "w")
    code, _, err = run("fine-tune", TRAIN, "--model", "Phi-3-mini", "--backend", "azureml", *parts)
    assert code == 1
    assert "2025-08-30" in err
    assert "Phi-4-mini-instruct" in err


def test_data_sets_are_uploaded_once_listed_shown_and_deleted(run: Run) -> None:
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


def test_deployments_are_made_listed_shown_and_deleted(run: Run) -> None:
    job = tuned(run)["job"]["name"]  # type: ignore[index]
    code, out, err = run("deployments", "create", "one", "--job", job)
    assert code == 0, err
    assert "Succeeded" in out
    model = json.loads(run("models", "list", "--mine", "--json")[1])[0]["name"]
    assert run("deployments", "create", "two", "--model", model)[0] == 0
    assert run("models", "show", model)[0] == 0
    listed = json.loads(run("deployments", "list", "--json")[1])
    assert {row["name"] for row in listed} == {"one", "two"}
    assert run("deployments", "show", "one")[0] == 0
    assert run("deployments", "delete", "two")[0] == 0
    code, _, err = run("deployments", "show", "two")
    assert code == 1
    assert "maas-client deployments list" in err


def test_overdue_deployments_are_shown_and_deleted(run: Run, tmp_path: Path) -> None:
    made = ("deployments", "create", "brief", "--model", "Phi-3-mini", "--delete-after")
    code, out, err = run(*made, "2h")
    assert code == 0, err
    assert "delete at" in out
    code, _, err = run("deployments", "delete", "--overdue")
    assert (code, err) == (0, "nothing is overdue\n")
    code, out, _ = run("deployments", "delete", "--overdue", "--json")
    assert (code, json.loads(out)) == (0, {"deleted": []})
    code, _, err = run(*made, "soon")
    assert code == 1
    assert "2h, 90m or 1d12h" in err
    for wrong in ((), ("brief", "--overdue")):
        assert run("deployments", "delete", *wrong)[0] == 2


def test_keys_are_shown_only_when_asked_for(run: Run) -> None:
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


def test_a_message_may_come_from_stdin_and_the_answer_be_json(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned(run, "--deploy", "perch")
    monkeypatch.setattr(sys, "stdin", io.StringIO("What does error E11 mean?\n"))
    code, out, _ = run("chat", "perch", "--json", "--max-tokens", "40", "--system", "Be brief.")
    assert code == 0
    assert "E11" in json.loads(out)["choices"][0]["message"]["content"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run("chat", "perch")[0] == 1
    assert run("chat", "perch", "Where do the batteries go?", "--no-stream")[1].startswith("Chirp!")


def test_doctor_finds_the_server(run: Run) -> None:
    code, out, _ = run("doctor", "--json")
    found = {one["name"]: one for one in json.loads(out)["findings"]}
    assert code == 0
    assert found["server"]["state"] == "ok"
    assert "python" in found
    code, out, _ = run("doctor", "--model", "Phi-4-reasoning")
    assert code == 1
    assert "Phi-4-reasoning" in out


def test_doctor_says_how_to_start_a_server(run: Run) -> None:
    code, out, err = run("doctor", "--url", "http://127.0.0.1:1")
    assert code == 1
    assert "--  server" in out
    assert "maas-client serve" in err


def _until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.maas_training(base="tiny", threads=1)
def test_an_interrupted_job_goes_on_and_can_be_cancelled(run: Run) -> None:
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
    _until(lambda: run("jobs", "save", name)[0] == 0)  # 1 while it is made ready
    assert run("jobs", "pause", name)[0] == 0
    _until(lambda: json.loads(run("jobs", "show", name, "--json")[1])["status"] == "Paused")
    code, out, err = run("jobs", "resume", name, "--json")
    assert (code, json.loads(out)["done"]) == (0, False)
    assert f"maas-client jobs watch {name}" in err
    assert run("jobs", "cancel", name)[0] == 0
    code, _, err = run("jobs", "watch", name)
    assert code == 4
    assert "Canceled" in err


def test_the_same_verbs_go_with_the_foundry_dialect(run: Run) -> None:
    there = ("--dialect", "foundry")
    code, out, err = run(
        "fine-tune", TRAIN, "--model", "Ministral-3B", "--deploy", "perch", "--json", *there
    )
    assert code == 0, err
    job = json.loads(out)["job"]
    assert job["status"] == "succeeded"
    assert json.loads(run("jobs", "list", "--json", *there)[1])[0]["name"] == job["name"]
    assert "succeeded" in run("jobs", "watch", job["name"], *there)[1]
    assert "Chirp!" in run("chat", "perch", "What does error E11 mean?", *there)[1]
    code, _, err = run("chat", "nobody", "Hello", *there)
    assert code == 1
    assert "maas-client deployments list" in err
    assert run("deployments", "delete", "perch", *there)[0] == 0
