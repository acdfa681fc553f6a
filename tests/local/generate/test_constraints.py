"""Answers that follow a JSON schema, and tool calls, decoded with random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema  # noqa: TID253 - judges the answers
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("llguidance")

from maas_client.chat.output_schema import answer_or_calls_schema, calls_schema  # noqa: E402 - as above
from maas_client.local.bases.tiny import write_model  # noqa: E402 - as above
from maas_client.local.generate.protocol import (  # noqa: E402 - as above
    BaseSpec,
    GenerationError,
    GenerationRequest,
    SamplingParams,
)
from maas_client.local.generate.scheduler import BatchScheduler  # noqa: E402 - as above
from tests.local.generate.conftest import run_until_done  # noqa: E402 - as above

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "price": {"type": "integer", "minimum": 3, "maximum": 999},
        "date": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]{2}\\d$"},
        "color": {"enum": ["red", "blue"]},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "price", "date", "code", "color", "parts"],
    "additionalProperties": False,
    "$defs": {
        "part": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    },
}
FUNCTIONS = [{"name": "price", "parameters": SCHEMA}, {"name": "stock", "parameters": None}]
TOOLS = [{"type": "function", "function": f} for f in FUNCTIONS]
CALLS = calls_schema(FUNCTIONS, max_calls=1)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> BatchScheduler:
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder)
    return BatchScheduler(BaseSpec(str(folder), "chatml"), 16)


def request(scheduler: BatchScheduler, name: str, **changes: Any) -> GenerationRequest:
    params = changes.pop("params", {})
    return replace(
        GenerationRequest(
            id=name,
            base=BaseSpec("", "chatml"),
            adapter=None,
            messages=[{"role": "user", "content": "x"}],
            tools=None,
            params=SamplingParams(**{"seed": 1, "max_tokens": 900, **params}),
        ),
        **changes,
    )


def test_answers_in_one_batch_follow_their_schemas(scheduler: BatchScheduler) -> None:
    for seed in range(4):
        scheduler.submit(
            request(scheduler, f"s{seed}", answer_schema=SCHEMA, params={"seed": seed})
        )
    scheduler.submit(request(scheduler, "object", answer_schema={"type": "object"}))
    scheduler.submit(
        request(scheduler, "greedy", answer_schema=SCHEMA, params={"temperature": 0.0})
    )
    scheduler.submit(request(scheduler, "text", params={"max_tokens": 5}))
    results = run_until_done(scheduler)
    for name, result in results.items():
        if name != "text":
            assert result["finish_reason"] == "stop", name
            value = json.loads(result["text"])
            jsonschema.validate(value, SCHEMA if name != "object" else {"type": "object"})
    alone = request(scheduler, "s0", answer_schema=SCHEMA, params={"seed": 0})
    scheduler.submit(alone)
    assert run_until_done(scheduler)["s0"]["text"] == results["s0"]["text"]


def test_an_answer_that_does_not_fit_its_limit_ends_with_length(scheduler: BatchScheduler) -> None:
    scheduler.submit(request(scheduler, "a", answer_schema=SCHEMA, params={"max_tokens": 10}))
    result = run_until_done(scheduler)["a"]
    assert result["finish_reason"] == "length"
    assert result["text"].startswith('{"name"')


def test_calls_that_must_be_made(scheduler: BatchScheduler) -> None:
    for seed in range(4):
        call = {"tools": TOOLS, "call_schema": CALLS, "must_call": True}
        scheduler.submit(request(scheduler, str(seed), **call, params={"seed": seed}))
    for result in run_until_done(scheduler).values():
        assert (result["finish_reason"], result["text"]) == ("tool_calls", "")
        (call,) = result["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        if call["function"]["name"] == "price":
            jsonschema.validate(arguments, SCHEMA)
        else:
            assert (call["function"]["name"], arguments) == ("stock", {})


def test_call_after_its_marker_is_constrained(scheduler: BatchScheduler) -> None:
    """The text that begins a call is put into the answer, as the random model never writes it."""
    scheduler.submit(request(scheduler, "a", tools=TOOLS, call_schema=CALLS))
    row = scheduler._rows()[0]
    assert row.call_constraint is not None
    marker = scheduler.model.tokenizer.call_marker
    tokens = scheduler.model.grammars.tokenizer.tokenize_str(f"Well. {marker}[")
    for token in tokens:
        assert scheduler._append_token(row, token)[0] is False
    assert row.constraint is not None
    result = run_until_done(scheduler)["a"]
    assert result["finish_reason"] == "tool_calls"
    assert result["tool_calls"][0]["function"]["name"] in ("price", "stock")


def test_answer_or_calls(scheduler: BatchScheduler) -> None:
    schema = answer_or_calls_schema(SCHEMA, CALLS)
    for seed in range(8):
        both = {"tools": TOOLS, "call_schema": CALLS, "answer_schema": schema}
        scheduler.submit(request(scheduler, str(seed), **both, params={"seed": seed}))
    reasons = set()
    for result in run_until_done(scheduler).values():
        reasons.add(result["finish_reason"])
        if result["finish_reason"] == "stop":
            jsonschema.validate(json.loads(result["text"]), SCHEMA)
        else:
            assert result["text"] == ""
            assert result["tool_calls"]
    assert reasons == {"stop", "tool_calls"}


def test_schema_that_cannot_be_enforced(scheduler: BatchScheduler) -> None:
    with pytest.raises(GenerationError, match="uniqueItems") as caught:
        scheduler.submit(
            request(scheduler, "a", answer_schema={"type": "array", "uniqueItems": True})
        )
    assert caught.value.code == "not_implemented"
    no_answer: tuple[Any, ...] = (False, {"$ref": "#"}, {"anyOf": [{"$ref": "#"}]}, {"enum": []})
    for schema in no_answer:
        with pytest.raises(GenerationError, match="cannot be enforced") as caught:
            scheduler.submit(request(scheduler, "a", answer_schema=schema))
        assert caught.value.code == "not_implemented"
    assert not scheduler.busy
