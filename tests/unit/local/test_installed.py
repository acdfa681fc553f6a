"""What a recipe takes and this machine lacks is refused when the job is asked for, not by a failed job."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest

from maas_client.errors import MissingExtraError
from maas_client.local.rules import recipe
from maas_client.local.rules.refusal import ApiError
from maas_client.local.services import intake


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither package."""
    monkeypatch.setattr(recipe, "find_spec", lambda name: None)


CASES = [
    ({"method": "QLoRA"}, "qlora"),
    ({"apply_deepspeed": "true"}, "deepspeed"),
]


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("said", "extra"), CASES)
def test_intake_refuses_and_says_what_to_install(said: dict[str, Any], extra: str) -> None:
    with pytest.raises(ApiError) as refused:
        intake._hyperparameters(said, trained=True)
    assert refused.value.status == 400
    assert f"pip install 'maas-client[{extra}]'" in refused.value.message
    assert intake._hyperparameters(said, trained=False) == said


@pytest.mark.usefixtures("bare")
def test_what_needs_nothing_passes() -> None:
    recipe.check_installed(recipe.parse_hyperparameters({"method": "DoRA"}))
    with pytest.raises(MissingExtraError):
        recipe.check_installed(recipe.parse_hyperparameters({"method": "QLoRA"}))


def test_looking_imports_nothing() -> None:
    before = {name.partition(".")[0] for name in sys.modules}
    with contextlib.suppress(MissingExtraError):
        recipe.check_installed(
            recipe.parse_hyperparameters({"method": "QLoRA", "apply_deepspeed": "true"})
        )
    after = {name.partition(".")[0] for name in sys.modules}
    assert not {"torch", "bitsandbytes", "deepspeed"} & (after - before)
