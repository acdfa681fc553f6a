"""The azureml dialect from file to chat, with Microsoft's clients unmodified."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.official.conftest import ServerProcess


@pytest.mark.slow
def test_official_clients(server_process: ServerProcess, train_file: Path) -> None:
    data = [
        str(train_file),
        str(server_process.folder / "val.jsonl"),
        str(server_process.folder / "bad.jsonl"),
    ]
    assert server_process.run("azureml_workflow.py", *data).endswith("answered\n")


@pytest.mark.slow
def test_assets_after_their_creation(server_process: ServerProcess, train_file: Path) -> None:
    assert server_process.run("azureml_assets.py", str(train_file)).endswith("answered\n")
