"""Requests and responses match the committed wire fixtures, so that a change on either side is noticed."""

from __future__ import annotations

import json

import pytest

from tests.official.wire_fixtures import DIALECTS, FOLDER, Dialect, record

OPTIONAL_EXCHANGES = {
    ("endpoints.get", 200), ("operations.status", 200), ("chat.complete", 503),
    ("foundry_chat.complete", 503), ("fine_tuning.cancel", 200), ("jobs.cancel", 202),
}  # fmt: skip
"""Recorded only when a poll happens at the right moment."""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_exchanges_match_fixtures(dialect: Dialect) -> None:
    fixtures = json.loads((FOLDER / f"{dialect}.json").read_text("utf-8"))
    now = {(e["operation"], e["status"]): e for e in record(dialect)}
    before = {(e["operation"], e["status"]): e for e in fixtures}
    assert set(now) ^ set(before) <= OPTIONAL_EXCHANGES
    for key in sorted(set(now) & set(before)):
        assert _comparable(now[key]) == _comparable(before[key]), key


TRANSIENT_STATES = (
    "pending", "running", "succeeded", "NotStarted", "Queued", "Starting", "Preparing", "Running",
    "Finalizing", "Completed", "Creating", "Succeeded", "Online", "InProgress",
)  # fmt: skip
GROWING_RESPONSES = frozenset(
    {"jobs.get", "fine_tuning.get", "runs.details", "metrics.list", "metrics.values",
     "fine_tuning.events", "operations.status"}
)  # fmt: skip
"""Responses that grow over time; test_conformance checks them."""


def _comparable(entry: dict[str, object]) -> dict[str, object]:
    """Remove what depends on the time of a poll."""
    text = json.dumps(entry)
    for word in TRANSIENT_STATES:
        text = text.replace(f'"{word}"', '"*"')
    value: dict[str, object] = json.loads(text)
    if entry["operation"] in GROWING_RESPONSES:
        value["answer"] = "*"
    return value
