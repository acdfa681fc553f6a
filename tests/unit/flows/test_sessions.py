"""Interactive training: bounds of the bodies, polling, and requests whose outcome is unknown."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from maas_client._client import Client
from maas_client.wire import sessions as wire


def datum(**inputs: Any) -> dict[str, Any]:
    tensors = {"target_tokens": [2.0, 3.0], "weights": [0.0, 1.0], **inputs}
    return {
        "model_input": {"chunks": [{"tokens": [1, 2]}]},
        "loss_fn_inputs": {name: {"data": data} for name, data in tensors.items()},
    }


@pytest.mark.parametrize(
    ("model", "body", "problem"),
    [
        (wire.LoraConfig, {"rank": 0}, "greater than or equal to 1"),
        (wire.LoraConfig, {"rank": 8, "dropout": 0.1}, "Extra inputs"),
        (wire.AdamParams, {"learning_rate": -1.0}, "greater than or equal to 0"),
        (wire.AdamParams, {"beta2": 1.0}, "less than 1"),
        (wire.AdamParams, {"eps": 0}, "greater than 0"),
        (wire.SaveCheckpoint, {"path": "../x"}, "match pattern"),
        (wire.SaveSampler, {"seq_id": 1}, "neither path nor both"),
        (wire.Datum, datum(weights=[1.0]), "weights has 1 values for 2 tokens"),
        (wire.Datum, datum(weights=[1.0, float("nan")]), "finite number"),
        (wire.LossInput, {"data": [], "loss_fn": "ppo"}, "at least 1 item"),
        (wire.LossInput, {"data": [datum()], "loss_fn": "dpo"}, "'cross_entropy'"),
        (wire.LossInput, {"data": [datum()], "loss_fn": "ppo"}, r"data\[0\] has none"),
        (wire.SamplingParams, {"max_tokens": 0}, "greater than or equal to 1"),
        (wire.SamplingParams, {"max_tokens": 1, "top_p": 0}, "greater than 0"),
    ],
)
def test_bodies_out_of_bounds_are_refused(model: Any, body: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as caught:
        model.model_validate(body)
    assert "input_value" not in str(caught.value)


def test_a_project_endpoint_has_sessions_and_an_account_endpoint_has_not() -> None:
    project = "https://a.services.ai.azure.com/api/projects/p"
    with Client.foundry(endpoint=project + "/", api_key="k" * 32) as client:
        assert client._io.scope.base_urls["project"] == project
    with Client.foundry(endpoint="https://a.openai.azure.com", api_key="k" * 32) as client:
        assert "project" not in client._io.scope.base_urls
