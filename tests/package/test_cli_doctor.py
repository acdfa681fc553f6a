"""``doctor`` as in the cloud: azure-identity and the command unchanged, through the local server's proxy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from maas_client.local.embed import serve


def test_doctor_looks_at_a_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the proxy: the command and azure-identity are as they would be in the cloud."""
    monkeypatch.setenv("AZURE_TENANT_ID", "11111111-1111-1111-1111-111111111111")
    monkeypatch.setenv("AZURE_CLIENT_ID", "22222222-2222-2222-2222-222222222222")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "do-not-tell")
    parts = ("--subscription-id", "s", "--resource-group", "g", "--workspace", "mine")
    command = [sys.executable, "-m", "maas_client", "doctor", "--backend", "azureml", *parts]
    with serve(engine="instant", proxy=True) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        fit = subprocess.run(
            [*command, "--model", "phi-4-mini", "--json"], capture_output=True, text=True
        )
        unfit = subprocess.run([*command, "--model", "phi-3-mini"], capture_output=True, text=True)
    found = {one["name"]: one for one in json.loads(fit.stdout)["findings"]}
    assert fit.returncode == 0
    assert "22222222" in found["identity"]["said"]
    assert "tenant 11111111" in found["identity"]["said"]
    assert found["workspace"]["said"].endswith("in eastus2")
    assert found["storage"]["state"] == found["model"]["state"] == "ok"
    assert found["roles"]["said"].startswith("may upload training data, start jobs, deploy")
    assert "Cores of this machine" in found["quota"]["said"]
    assert unfit.returncode == 1
    assert "2025-08-30" in unfit.stdout
    assert "do-not-tell" not in fit.stdout + fit.stderr + unfit.stdout + unfit.stderr
    assert "eyJ" not in fit.stdout + unfit.stdout


def test_doctor_says_which_variable_of_the_environment_is_wrong(
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
        looked, listed = (
            subprocess.run([sys.executable, "-m", "maas_client", *verb, *where], capture_output=True, text=True)
            for verb in (("doctor",), ("jobs", "list"))
        )  # fmt: skip
    assert looked.returncode == listed.returncode == 1
    assert "tried" in looked.stdout
    assert "AADSTS7000215" in looked.stdout
    for told in (looked.stderr, listed.stderr):
        assert "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET are set and tried" in told
        assert "correct AZURE_CLIENT_SECRET" in told
        assert "az login" not in told
        assert "do-not-tell" not in told


def test_doctor_looks_at_a_foundry_account(monkeypatch: pytest.MonkeyPatch) -> None:
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
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["roles"]["said"] == "may start jobs, deploy"
    assert "0 of 1000" in found["quota"]["said"]
