"""The pytest plugin, run as an application's own tests would run it: in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_app.py").write_text(textwrap.dedent(text))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *options,
        str(folder),
    ]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)


APPLICATION = """
    import json
    import os
    import time

    import maas_client as maas
    import pytest


    @pytest.fixture
    def data(tmp_path):
        row = {"messages": [{"role": "user", "content": "who made you"},
                            {"role": "assistant", "content": "the tailor of Ulm"}]}
        path = tmp_path / "train.jsonl"
        path.write_text((json.dumps(row) + "\\n") * 12)
        return path


    def test_code_that_reads_the_environment_runs_unchanged(maas_server, data):
        with maas.Client.from_env() as client:
            result = client.fine_tune(data, model="Phi-3-mini-4k-instruct", deploy="tailor")
            reply = client.chat.complete(result.deployment, [{"role": "user", "content": "who made you?"}])
        assert reply.choices[0].message.content == "the tailor of Ulm"
        assert result.job.properties["simulated"] == "true"
        assert os.environ["MAAS_URL"] == maas_server.url


    def test_state_is_this_tests_own(maas_server):
        assert list(maas_server.client().jobs.list()) == []


    async def test_async(maas_server, data):
        async with maas_server.async_client() as client:
            job = await client.jobs.create(model="Phi-3-mini-4k-instruct", training_data=data)
            assert (await client.jobs.wait(job)).succeeded


    def test_nothing_else_is_reached(maas_server):
        client = maas.Client.foundry(endpoint="https://r.openai.azure.com", api_key="k")
        with pytest.raises(maas.MaasError, match="(?i)offline"):
            list(client.jobs.list())


    def test_the_environment_is_left_as_it_was():
        assert not [name for name in os.environ if name.startswith("MAAS_")]
"""


def test_an_applications_tests(tmp_path):
    done = run(tmp_path, APPLICATION, "-W", "error", "-o", "anyio_mode=auto")
    assert "5 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_is_light():
    code = (
        "import sys, pytest; before = set(sys.modules); import maas_client.testing\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} - {'maas_client'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_fixture_shadows_the_module():
    import maas_client.testing as plugin

    fixtures = [
        n for n, v in vars(plugin).items() if type(v).__name__ == "FixtureFunctionDefinition"
    ]
    assert fixtures == ["maas_server"]


TRAINING = """
    import json
    import pytest

    @pytest.mark.maas_training
    def test_real(maas_server, tmp_path):
        row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
        path = tmp_path / "train.jsonl"
        path.write_text((json.dumps(row) + "\\n") * 12)
        job = maas_server.client().jobs.create(model="Phi-3-mini-4k-instruct", training_data=path)
        job = maas_server.client().jobs.wait(job)
        assert job.properties["maas_client.base"] == "tiny"
        assert "simulated" not in job.properties
"""


@pytest.mark.slow
def test_the_mark_trains_for_real(tmp_path):
    pytest.importorskip("torch")
    done = run(tmp_path, TRAINING, "--strict-markers")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
