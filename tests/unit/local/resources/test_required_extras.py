"""What a recipe takes and this machine lacks is refused when the job is asked for, not by a failed job."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest

from maas_client.errors import MissingExtraError
from maas_client.local.requests import azureml_job
from maas_client.local.resources import training_config
from maas_client.local.resources.errors import ApiError


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither package."""
    monkeypatch.setattr(training_config, "find_spec", lambda name: None)


CASES = [
    ({"method": "QLoRA"}, "qlora"),
    ({"apply_deepspeed": "true"}, "deepspeed"),
]


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("said", "extra"), CASES)
def test_intake_refuses_and_says_what_to_install(said: dict[str, Any], extra: str) -> None:
    with pytest.raises(ApiError) as refused:
        azureml_job._hyperparameters(said, trained=True)
    assert refused.value.status == 400
    assert f"pip install 'maas-client[{extra}]'" in refused.value.message
    assert azureml_job._hyperparameters(said, trained=False) == said


@pytest.mark.usefixtures("bare")
def test_what_needs_nothing_passes() -> None:
    training_config.check_installed(training_config.parse_hyperparameters({"method": "DoRA"}))
    with pytest.raises(MissingExtraError):
        training_config.check_installed(training_config.parse_hyperparameters({"method": "QLoRA"}))


def test_looking_imports_nothing() -> None:
    before = {name.partition(".")[0] for name in sys.modules}
    with contextlib.suppress(MissingExtraError):
        training_config.check_installed(
            training_config.parse_hyperparameters({"method": "QLoRA", "apply_deepspeed": "true"})
        )
    after = {name.partition(".")[0] for name in sys.modules}
    assert not {"torch", "bitsandbytes", "deepspeed"} & (after - before)
