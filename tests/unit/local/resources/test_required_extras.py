"""Packages that a job needs and that are missing: the job is refused when it is created."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from maas_client.errors import MissingExtraError
from maas_client.local.requests import azureml_job
from maas_client.local.resources import training_config
from maas_client.local.resources.errors import ApiError


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without both packages."""
    monkeypatch.setattr(training_config, "find_spec", lambda name: None)


CASES = [
    ({"method": "QLoRA"}, "qlora"),
    ({"apply_deepspeed": "true"}, "deepspeed"),
]


@pytest.mark.usefixtures("without_packages")
@pytest.mark.parametrize(("hyperparameters", "extra"), CASES)
def test_job_request_is_refused_with_what_to_install(
    hyperparameters: dict[str, Any], extra: str
) -> None:
    with pytest.raises(ApiError) as refused:
        azureml_job._hyperparameters(hyperparameters, uses_torch=True)
    assert refused.value.status == 400
    assert f"pip install 'maas-client[{extra}]'" in refused.value.message
    assert azureml_job._hyperparameters(hyperparameters, uses_torch=False) == hyperparameters


@pytest.mark.usefixtures("without_packages")
def test_only_settings_that_need_a_package_are_refused() -> None:
    training_config.check_installed(training_config.parse_hyperparameters({"method": "DoRA"}))
    with pytest.raises(MissingExtraError):
        training_config.check_installed(training_config.parse_hyperparameters({"method": "QLoRA"}))


def test_check_imports_no_heavy_package() -> None:
    """In a process of its own: in this one torch may be loaded already."""
    code = (
        "import contextlib, sys\n"
        "from maas_client.errors import MissingExtraError\n"
        "from maas_client.local.resources.training_config import check_installed, parse_hyperparameters\n"
        "with contextlib.suppress(MissingExtraError):\n"
        "    check_installed(parse_hyperparameters({'method': 'QLoRA', 'apply_deepspeed': 'true'}))\n"
        "print(sorted({'torch', 'bitsandbytes', 'deepspeed'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
