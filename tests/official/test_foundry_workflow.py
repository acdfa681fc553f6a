"""The foundry dialect from file to chat, with official clients and with maas_client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.official.conftest import ServerProcess


@pytest.mark.slow
def test_official_clients(server_process: ServerProcess, train_file: Path) -> None:
    assert server_process.run("foundry_workflow.py", str(train_file)).endswith("answered\n")


@pytest.mark.slow
def test_maas_client_on_both_dialects(server_process: ServerProcess, train_file: Path) -> None:
    assert server_process.run("maas_client_workflow.py", str(train_file)).endswith("answered\n")


@pytest.mark.slow
def test_foundry_project(server_process: ServerProcess, train_file: Path) -> None:
    pytest.importorskip("azure.ai.projects")
    assert server_process.run("foundry_project.py", str(train_file)).endswith("answered\n")
