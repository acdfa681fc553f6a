"""The names and values of hyperparameters on the wire, derived from the table of hyperparameters.

Azure ML takes the names of Microsoft's ``chat_completion_pipeline`` (azureml-assets), which are those of
``transformers.TrainingArguments`` where both have the parameter. Foundry takes OpenAI's names.
"""

from __future__ import annotations

from typing import Any

from maas_client._hyperparameter_table import HYPERPARAMETERS

WIRE_NAMES = {
    spec.name: spec.azureml_name for spec in HYPERPARAMETERS.values() if spec.azureml_name
}
"""Azure ML's names by this library's."""
SERVERLESS_HYPERPARAMETERS = frozenset(
    spec.name for spec in HYPERPARAMETERS.values() if spec.is_serverless
)
"""What serverless fine-tuning takes: what every Microsoft sample sends (docs/azure-http.md section 1.4)."""
FOUNDRY_WIRE_NAMES = {
    spec.name: spec.foundry_name for spec in HYPERPARAMETERS.values() if spec.foundry_name
}
"""Foundry's names by this library's (docs/azure-http.md section 4.4). The seed is a field of the job itself."""
FOUNDRY_SUPERVISED_FIELDS = frozenset(FOUNDRY_WIRE_NAMES.values()) - {"seed"}
"""The fields of ``method.supervised.hyperparameters``."""
FOUNDRY_RANGES = {
    spec.foundry_name: spec.foundry_range
    for spec in HYPERPARAMETERS.values()
    if spec.foundry_name and spec.foundry_range
}
"""OpenAI's ranges of integers, by Foundry's names."""
NAMES_BY_WIRE_NAME = {
    wire_name: name
    for names in (WIRE_NAMES, FOUNDRY_WIRE_NAMES)
    for name, wire_name in names.items()
}
"""This library's names by the names of either service."""


def to_wire_value(value: Any) -> str:
    """Return a value as a string, as Azure ML takes it: numbers without an exponent, lists with commas."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(value, ".10f").rstrip("0").rstrip(".") if value >= 1e-9 else repr(value)
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value)
