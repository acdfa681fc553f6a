"""The measurement of ``plan``: training steps on a few blocks, with every method that it compares."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")

from maas_client import catalog  # noqa: E402 - after the skip
from maas_client.local.planning import probe  # noqa: E402
from maas_client.local.planning.plan import COMPARED_METHODS  # noqa: E402


@pytest.mark.parametrize("method", COMPARED_METHODS)
def test_every_compared_method_is_measured(
    method: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if method == "QLoRA" and find_spec("bitsandbytes") is None:
        pytest.skip("needs the extra qlora")
    shape = catalog.get_model("tiny").architecture
    assert shape is not None
    request = {
        "shape": asdict(shape),
        "method": method,
        "r": 8,
        "threads": torch.get_num_threads(),
        "lengths": [20, 20],
        "learned_share": 0.4,
        "steps": 3,
        "blocks": 1,
    }
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    probe.main()
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["step_s"] < 60
    assert result["peak_bytes"] > 0
