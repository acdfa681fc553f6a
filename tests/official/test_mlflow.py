"""mlflow, unmodified, with the tracking address of the plain port; skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.official.conftest import ServerProcess


@pytest.mark.slow
def test_mlflow(server_process: ServerProcess, train_file: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    assert server_process.run("mlflow_runs.py", server_process.url, str(train_file)).endswith(
        "answered\n"
    )
