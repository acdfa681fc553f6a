"""File to chat on the azureml dialect: Microsoft's clients, written for the cloud, unmodified."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.official.conftest import Served


@pytest.mark.slow
def test_official_clients_from_file_to_chat(served: Served, train: Path) -> None:
    data = [str(train), str(served.folder / "val.jsonl"), str(served.folder / "bad.jsonl")]
    assert served.run("azureml_workflow.py", *data).endswith("answered\n")
