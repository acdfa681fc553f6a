"""File to chat on the foundry dialect: official clients, written for the cloud, and ours, the same way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.official.conftest import Served


@pytest.mark.slow
def test_official_clients_from_file_to_chat(served: Served, train: Path) -> None:
    assert served.run("foundry_workflow.py", str(train)).endswith("answered\n")


@pytest.mark.slow
def test_our_client_on_both_roads(served: Served, train: Path) -> None:
    assert served.run("maas_client_workflow.py", str(train)).endswith("answered\n")
