"""mlflow, unmodified, with the tracking address of the plain port; skipped where it is not installed.

``make setup`` installs it in a folder of its own: beside transformers it would switch on a callback that
records every training in the tests of the engine.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.official.conftest import ServerProcess


@pytest.mark.slow
def test_mlflow(server_process: ServerProcess, train_file: Path) -> None:
    folder = Path(sys.prefix) / "mlflow"
    if not (folder / "mlflow").is_dir():
        pytest.skip(f"mlflow-skinny is not installed in {folder}: run make setup")
    output = server_process.run(
        "mlflow_runs.py", server_process.url, str(train_file), PYTHONPATH=str(folder)
    )
    assert output.endswith("answered\n")
