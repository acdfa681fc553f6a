"""A fixture that builds jobs to export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from maas_client import catalog
from maas_client.platforms import ExportSpec
from maas_client.types import Hyperparameters

Make = Callable[..., ExportSpec]


@pytest.fixture
def job() -> Make:
    def make(model: str = "Phi-4-mini-instruct", **changes: Any) -> ExportSpec:
        hyperparameters = changes.pop("hyperparameters", {"epochs": 3, "learning_rate": 2e-5})
        fields = {
            "name": "Tickets v2",
            "model": model,
            "training_data": "train.jsonl",
            "model_info": catalog.find_model(model),
            "hyperparameters": Hyperparameters(**hyperparameters),
        }
        return ExportSpec(**{**fields, **changes})

    return make
