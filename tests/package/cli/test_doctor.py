"""``doctor`` for Azure backends: azure-identity and the command, through the local server's proxy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import maas_client
from maas_client.cli.commands.doctor import _missing_packages
from maas_client.local.embedded_server import serve


def test_doctor_checks_a_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy stands for Azure, so the command and azure-identity run unmodified."""
    parts = ("--subscription-id", "s", "--resource-group", "g", "--workspace", "mine")
    command = [sys.executable, "-m", "maas_client", "doctor", "--backend", "azureml", *parts]
    with serve(engine="instant", proxy=True) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111")
        monkeypatch.setenv("AZURE_CLIENT_ID", "22222222-2222-2222-2222-222222222222")
        monkeypatch.setenv("AZURE_CLIENT_SECRET", "do-not-tell")
        supported = subprocess.run(
            [*command, "--model", "phi-4-mini", "--json"], capture_output=True, text=True
        )
        retired = subprocess.run(
            [*command, "--model", "phi-3-mini"], capture_output=True, text=True
        )
    findings = {finding["name"]: finding for finding in json.loads(supported.stdout)["findings"]}
    assert supported.returncode == 0
    assert findings["identity"]["message"] == findings["identity"]["said"]
    assert findings["maas-client"]["message"].endswith(f"in {Path(maas_client.__file__).parent}")
    assert "22222222" in findings["identity"]["said"]
    assert "tenant 11111111" in findings["identity"]["said"]
    assert findings["workspace"]["said"].endswith("in eastus2")
    assert findings["storage"]["state"] == findings["model"]["state"] == "ok"
    assert findings["roles"]["said"].startswith("may upload training data, start jobs, deploy")
    assert "Cores of this machine" in findings["quota"]["said"]
    assert retired.returncode == 1
    assert "2025-08-30" in retired.stdout
    assert (
        "do-not-tell" not in supported.stdout + supported.stderr + retired.stdout + retired.stderr
    )
    assert "eyJ" not in supported.stdout + retired.stdout


def test_doctor_names_the_wrong_environment_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111")
    monkeypatch.setenv("AZURE_CLIENT_ID", "22222222-2222-2222-2222-222222222222")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "do-not-tell")
    where = (
        "--backend",
        "azureml",
        "--subscription-id",
        "s",
        "--resource-group",
        "g",
        "--workspace",
        "w",
    )
    with serve(engine="instant", proxy=True, api_key="another") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        doctor, jobs_list = (
            subprocess.run([sys.executable, "-m", "maas_client", *verb, *where], capture_output=True, text=True)
            for verb in (("doctor",), ("jobs", "list"))
        )  # fmt: skip
    assert doctor.returncode == jobs_list.returncode == 1
    assert "tried" in doctor.stdout
    assert "AADSTS7000215" in doctor.stdout
    for stderr in (doctor.stderr, jobs_list.stderr):
        assert (
            "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET are set and tried" in stderr
        )
        assert "correct AZURE_CLIENT_SECRET" in stderr
        assert "az login" not in stderr
        assert "do-not-tell" not in stderr


def test_doctor_checks_a_foundry_account(monkeypatch: pytest.MonkeyPatch) -> None:
    account = (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/mine"
    )
    command = [sys.executable, "-m", "maas_client", "doctor", "--backend", "foundry", "--json",
               "--endpoint", "https://mine.openai.azure.com", "--account-id", account]  # fmt: skip
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111")
    monkeypatch.setenv("AZURE_CLIENT_ID", "22222222-2222-2222-2222-222222222222")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "do-not-tell")
    with serve(engine="instant", proxy=True) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        done = subprocess.run([*command, "--model", "Ministral-3B"], capture_output=True, text=True)
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0, done.stdout + done.stderr
    assert findings["roles"]["said"] == "may start jobs, deploy"
    assert "0 of 1000" in findings["quota"]["said"]


def test_incomplete_extra_names_the_extra_that_it_includes() -> None:
    requirements = [
        "no-such-package>=1; extra == 'local'",
        "no-other-package>=1; extra == 'local'",
        "maas-client[local]; extra == 'qlora'",
        "no-third-package>=1; extra == 'qlora'",
    ]
    assert _missing_packages("qlora", requirements) == {"extra local", "no-third-package"}
    assert _missing_packages("local", requirements) == {"no-such-package", "no-other-package"}
