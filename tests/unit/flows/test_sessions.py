"""Interactive training: bounds of the bodies, polling, and requests whose outcome is unknown."""

from __future__ import annotations

import functools
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from maas_client._client import Client
from maas_client._transport import run_sync
from maas_client.errors import (
    BadRequestError,
    ConfigError,
    ConflictError,
    MaasError,
    NotFoundError,
    ServiceError,
    TransportError,
    UnsupportedError,
)
from maas_client.flows.sessions import sessions, training
from maas_client.types import TrainingExample
from maas_client.wire import sessions as wire
from tests.unit.fake_port import FakePort


def datum(**inputs: Any) -> dict[str, Any]:
    tensors = {"target_tokens": [2.0, 3.0], "weights": [0.0, 1.0], **inputs}
    return {
        "model_input": {"chunks": [{"tokens": [1, 2]}]},
        "loss_fn_inputs": {name: {"data": data} for name, data in tensors.items()},
    }


DEEP: Any = functools.reduce(lambda value, _: [value], range(900), 1)


@pytest.mark.parametrize(
    ("model", "body", "problem"),
    [
        (wire.LoraConfig, {"rank": 0}, "greater than or equal to 1"),
        (wire.LoraConfig, {"rank": 8, "dropout": 0.1}, "Extra inputs"),
        (wire.AdamParams, {"learning_rate": -1.0}, "greater than or equal to 0"),
        (wire.AdamParams, {"beta2": 1.0}, "less than 1"),
        (wire.AdamParams, {"eps": 0}, "greater than 0"),
        (wire.SaveCheckpoint, {"path": "../x"}, "match pattern"),
        (wire.SaveCheckpoint, {"path": "x", "metrics": {"a": DEEP}}, "Recursion error"),
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


EXAMPLE = TrainingExample.from_tokens([1, 2], [3, 4], advantage=1.0, logprobs=[-0.5, -0.25])
ACCEPTED = {"request_id": "request_1", "session_id": "session_1", "status": "pending"}


def project_port(**values: Any) -> FakePort:
    io = FakePort("foundry", **values)
    io.scope.base_urls = {**io.scope.base_urls, "project": "https://r/api/projects/p"}
    return io


def test_an_example_is_shifted_by_one_token_and_trains_the_answer_alone() -> None:
    assert EXAMPLE.tokens == (1, 2, 3)
    assert EXAMPLE.target_tokens == (2, 3, 4)
    assert EXAMPLE.weights == (0, 1, 1)
    assert EXAMPLE.advantages == (0, 1, 1)
    assert EXAMPLE.logprobs == (0, -0.5, -0.25)


async def test_a_batch_is_sent_once_and_its_result_polled() -> None:
    io = project_port()
    io.on("sessions.forward_backward", ACCEPTED)
    result = {
        "loss_fn_outputs": [{"logprobs": {"data": [-1.0, -2.0, -3.0]}}],
        "metrics": {"total_loss:sum": 5.0},
    }
    io.on("sessions.request", {"status": "pending"}, {"status": "completed", "result": result})
    loss = await training.forward_backward(io, "1", [EXAMPLE], loss="ppo", clip_low=0.8)
    assert (loss.loss, loss.logprobs, loss.request) == (5.0, ((-1, -2, -3),), "request_1")
    (sent,) = io.asked("sessions.forward_backward")
    assert sent.path == {"session": "model_1"}
    assert sent.headers == {"Foundry-Features": "FineTuningSessions=V1Preview"}
    assert sent.body["forward_backward_input"]["loss_fn_config"] == {"clip_low_threshold": 0.8}
    assert wire.ForwardBackward.model_validate(sent.body).dump() == sent.body


@pytest.mark.parametrize("error", [TransportError("lost"), ServiceError("down", status=503)])
@pytest.mark.parametrize("verb", ["create", "forward_backward", "optim_step", "save"])
async def test_a_lost_change_is_not_repeated(verb: str, error: MaasError) -> None:
    calls: dict[str, Any] = {
        "create": lambda io: sessions.create(io, "gpt-oss-120b", lora_rank=8),
        "forward_backward": lambda io: training.forward_backward(io, "session_1", [EXAMPLE]),
        "optim_step": lambda io: training.optim_step(io, "session_1"),
        "save": lambda io: sessions.save(io, "session_1", "a"),
    }
    io = project_port()
    io.on(f"sessions.{verb}", error)
    with pytest.raises(TransportError, match="the outcome is unknown") as caught:
        await calls[verb](io)
    assert caught.value.hint
    assert len(io.sent) == 1


async def test_a_request_that_changes_nothing_is_sent_again_when_the_service_asks() -> None:
    failed = {"status": "failed", "error": "restarted", "should_retry": True, "retry_after_sec": 3}
    io = project_port()
    io.on("sessions.forward", ACCEPTED)
    io.on("sessions.request", failed, {"status": "succeeded", "result": {}})
    await training.forward(io, "session_1", [EXAMPLE])
    assert (len(io.asked("sessions.forward")), io.slept) == (2, [3])
    io.on("sessions.optim_step", ACCEPTED)
    io.on("sessions.request", failed)
    with pytest.raises(ServiceError, match=r"restarted.*send it again"):
        await training.optim_step(io, "session_1")
    assert len(io.asked("sessions.optim_step")) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_request", BadRequestError),
        ("model_not_found", NotFoundError),
        ("engine_dead", ConflictError),
        ("engine_oom", ServiceError),
    ],
)
async def test_failed_requests_raise_errors_of_our_tree(code: str, kind: type[MaasError]) -> None:
    io = project_port()
    io.on("sessions.optim_step", ACCEPTED)
    io.on("sessions.request", {"status": "failed", "error": "no", "error_code": code})
    with pytest.raises(kind, match=code):
        await training.optim_step(io, "session_1")


async def test_a_session_that_is_not_ready_in_time_is_named() -> None:
    io = project_port()
    io.on("sessions.create", ACCEPTED)
    io.on("sessions.request", {"status": "pending"})
    with pytest.raises(
        TransportError, match=r"has not ended after 20 s.*sessions.delete"
    ) as caught:
        await sessions.create(io, "gpt-oss-120b", lora_rank=8, timeout=20)
    assert caught.value.timed_out


@pytest.mark.parametrize("error", [TransportError("lost"), ServiceError("down", status=503)])
@pytest.mark.parametrize("operation", ["sessions.request", "sessions.get"])
async def test_a_created_session_that_cannot_be_read_is_named(
    operation: str, error: MaasError
) -> None:
    io = project_port()
    io.on("sessions.create", ACCEPTED)
    io.on("sessions.request", {"status": "completed"})
    io.on(operation, error)
    with pytest.raises(MaasError, match=r"sessions.delete\('session_1'\)"):
        await sessions.create(io, "gpt-oss-120b", lora_rank=8)


def test_an_interrupt_while_a_session_is_created_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # restored at the end
    io = project_port()
    io.on("sessions.create", ACCEPTED)
    io.on("sessions.request", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        run_sync(sessions.create(io, "gpt-oss-120b", lora_rank=8))
    (note,) = caught.value._render_traceback_()  # type: ignore[attr-defined]  # IPython's name
    assert note.endswith("may cost money; client.sessions.delete('session_1') deletes it")


async def test_polling_outlasts_an_outage_and_a_request_that_appears_late() -> None:
    io = project_port()
    io.on("sessions.optim_step", ACCEPTED)
    outage = [NotFoundError("none", status=404), ServiceError("down", status=502)]
    io.on("sessions.request", *outage, {"status": "completed", "result": {"step_count": 4}})
    assert (await training.optim_step(io, "session_1")).step == 4


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda io: sessions.create(io, "gpt-oss-120b", lora_rank=0), "lora_config.rank"),
        (lambda io: training.optim_step(io, "s", learning_rate=-1), "learning_rate"),
        (lambda io: training.forward(io, "s", []), "at least 1 item"),
        (lambda io: training.forward(io, "s", [EXAMPLE] * 1025), "1,025 examples"),
        (lambda io: training.forward(io, "s", [{}]), "example 0"),
        (lambda io: training.forward(io, "s", [EXAMPLE], loss="dpo"), "loss_fn"),
        (lambda io: training.sample(io, "s", [1], checkpoint="a", max_tokens=0), "max_tokens"),
        (lambda io: training.sample(io, "s", [], checkpoint="a", max_tokens=1), "tokens"),
        (lambda io: sessions.save(io, "s", "a/b"), "path"),
        (lambda io: sessions.save(io, "s", "a", kind="sampler", step=1), "neither"),
        (lambda io: sessions.save(io, "s", "a", kind="other"), "training or sampler"),
        (lambda io: sessions.load(io, "a"), "SESSION/NAME"),
        (lambda io: sessions.get(io, ""), "not a session"),
        (lambda io: sessions.get(io, "a/b"), "cannot be used"),
    ],
)
async def test_invalid_arguments_are_refused_before_anything_is_sent(
    call: Any, problem: str
) -> None:
    io = project_port()
    io.on(
        "sessions.get",
        lambda sent: ConfigError("cannot be used") if "/" in sent.path["session"] else {},
    )
    with pytest.raises(ConfigError, match=problem):
        await call(io)
    assert {sent.op for sent in io.sent} <= {"sessions.get"}


@pytest.mark.parametrize(
    ("io", "model", "kind", "problem"),
    [
        (FakePort("azureml"), "gpt-oss-120b", UnsupportedError, "workspace has no interactive"),
        (FakePort("foundry"), "gpt-oss-120b", ConfigError, "endpoint of a project"),
        (project_port(), "gpt-4.1", UnsupportedError, "does not train gpt-4.1.*Qwen3.8-27B"),
        (project_port(), "no-such-model", ConfigError, "no-such-model"),
    ],
)
async def test_sessions_that_azure_does_not_have_are_refused(
    io: FakePort, model: str, kind: type[MaasError], problem: str
) -> None:
    with pytest.raises(kind, match=problem):
        await sessions.create(io, model, lora_rank=8)
    assert not io.sent


async def test_all_pages_of_the_list_are_read_and_a_missing_session_counts_as_deleted() -> None:
    io = project_port()
    item = {"session_id": "session_1", "base_model": "gpt-oss-120b", "status": "failed"}
    cursor = {"offset": 0, "limit": 100, "total_count": 2}
    io.on("sessions.list", {"data": [item], "cursor": cursor})
    found = [session async for session in sessions.list_all(io)]
    assert [(session.id, session.done) for session in found] == [("session_1", True)] * 2
    assert [sent.query["offset"] for sent in io.sent] == ["0", "1"]
    io.on("sessions.delete", NotFoundError("none", status=404))
    await sessions.delete(io, "session_1")
