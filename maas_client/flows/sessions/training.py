"""The requests that train a session of ``client.sessions`` and sample from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maas_client._messages import Argument, Call, Text
from maas_client.errors import ConfigError
from maas_client.flows._io import IO
from maas_client.flows.sessions import requests
from maas_client.flows.sessions.requests import REQUEST_TIMEOUT_S
from maas_client.types import (
    LossResult,
    SampledSequence,
    SampleResult,
    Session,
    SessionCheckpoint,
    StepResult,
    TrainingExample,
)
from maas_client.wire import sessions as wire
from maas_client.wire.operation import Operation
from maas_client.wire.parsing import translate_parse_errors
from maas_client.wire.sessions import LossName


async def forward_backward(
    io: IO,
    session: Session | str,
    examples: Sequence[TrainingExample],
    *,
    loss: LossName = "cross_entropy",
    clip_low: float | None = None,
    clip_high: float | None = None,
    tau_pos: float | None = None,
    tau_neg: float | None = None,
    timeout: float = REQUEST_TIMEOUT_S,
) -> LossResult:
    """Compute the loss of a batch, and add its gradients to those that wait for ``optim_step``.

    The request is sent once: whether a lost one was carried out cannot be found out.

    Args:
        session: A session or its id.
        examples: The batch, at most 1,024 examples. Call this several times for a larger one.
        loss: ``cross_entropy``, ``importance_sampling``, ``ppo``, ``cispo`` or ``sapo``; all but the first
            need ``advantages`` in the examples; default: ``cross_entropy``.
        clip_low: The lower threshold of ``ppo`` and ``cispo``. Default: the service's.
        clip_high: The upper threshold of ``ppo`` and ``cispo``. Default: the service's.
        tau_pos: The temperature of ``sapo`` for positive advantages. Default: the service's.
        tau_neg: The temperature of ``sapo`` for negative advantages. Default: the service's.
        timeout: Seconds until the result must be there; default: 3600.

    Returns:
        The loss, and the log probabilities of the targets.

    Raises:
        ConfigError: The batch is empty or too large, or an example or argument is invalid.
        NotFoundError: There is no such session.
        ConflictError: The session has ended.
        TransportError: No response arrived, so the gradients may have been added.
        BadRequestError: The service refused the batch.

    Example:
        >>> client.sessions.forward_backward(session, examples).loss
        2.31
    """
    config = _loss_config(clip_low, clip_high, tau_pos, tau_neg)
    batch = _batch(examples, loss, config)
    body = {"forward_backward_input": batch.dump()}
    return await _run_loss(io, wire.FORWARD_BACKWARD, session, body, timeout)


async def forward(
    io: IO,
    session: Session | str,
    examples: Sequence[TrainingExample],
    *,
    loss: LossName = "cross_entropy",
    clip_low: float | None = None,
    clip_high: float | None = None,
    tau_pos: float | None = None,
    tau_neg: float | None = None,
    timeout: float = REQUEST_TIMEOUT_S,
) -> LossResult:
    """Compute the log probabilities of a batch. The session does not change.

    Args:
        session: A session or its id.
        examples: As for ``forward_backward``.
        loss: As for ``forward_backward``.
        clip_low: As for ``forward_backward``.
        clip_high: As for ``forward_backward``.
        tau_pos: As for ``forward_backward``.
        tau_neg: As for ``forward_backward``.
        timeout: Seconds until the result must be there; default: 3600.

    Returns:
        The log probabilities of the targets.

    Raises:
        ConfigError: The batch is empty or too large, or an example or argument is invalid.
        NotFoundError: There is no such session.
        ConflictError: The session has ended.
        BadRequestError: The service refused the batch.

    Example:
        >>> client.sessions.forward(session, examples).logprobs
    """
    config = _loss_config(clip_low, clip_high, tau_pos, tau_neg)
    batch = _batch(examples, loss, config)
    return await _run_loss(io, wire.FORWARD, session, {"forward_input": batch.dump()}, timeout)


async def optim_step(
    io: IO,
    session: Session | str,
    *,
    learning_rate: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.95,
    eps: float = 1e-12,
    weight_decay: float = 0.0,
    timeout: float = REQUEST_TIMEOUT_S,
) -> StepResult:
    """Change the adapter by the gradients that were added since the last step, with Adam.

    The request is sent once: whether a lost one was carried out cannot be found out. The defaults are those
    that the service documents.

    Args:
        session: A session or its id.
        learning_rate: The learning rate, from 0; default: 1e-4.
        beta1: The decay of the mean of the gradients, from 0 to below 1; default: 0.9.
        beta2: The decay of the mean of their squares, from 0 to below 1; default: 0.95.
        eps: A number above 0 that is added to the denominator; default: 1e-12.
        weight_decay: The weight decay, from 0; default: 0.
        timeout: Seconds until the result must be there; default: 3600.

    Returns:
        The number of the step, and the norm of the gradients.

    Raises:
        ConfigError: An argument is out of bounds.
        NotFoundError: There is no such session.
        ConflictError: The session has ended.
        TransportError: No response arrived, so the step may have been made.

    Example:
        >>> client.sessions.optim_step(session, learning_rate=4e-5).step
        1
    """
    adam = requests.build(
        wire.AdamParams,
        {
            "learning_rate": learning_rate,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "weight_decay": weight_decay,
        },
    )
    body = wire.OptimStep(adam_params=adam)
    request, result = await requests.run(io, wire.OPTIM_STEP, session, body.dump(), timeout)
    return _to_step(request, result)


async def sample(
    io: IO,
    session: Session | str,
    prompt: Sequence[int],
    *,
    checkpoint: SessionCheckpoint | str,
    max_tokens: int,
    num_samples: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = -1,
    seed: int | None = None,
    stop: Sequence[int] | Sequence[str] | None = None,
    prompt_logprobs: bool = False,
    topk_prompt_logprobs: int = 0,
    timeout: float = REQUEST_TIMEOUT_S,
) -> SampleResult:
    """Sample answers to a prompt from a sampler checkpoint.

    Args:
        session: The session that saved the checkpoint, or its id.
        prompt: The ids of the prompt's tokens.
        checkpoint: A checkpoint of kind ``sampler``, or its name.
        max_tokens: The largest number of tokens of an answer.
        num_samples: How many answers to sample; default: 1.
        temperature: The temperature, from 0; default: 1.
        top_p: Sample from the likeliest tokens that have this probability together; default: 1, all.
        top_k: Sample from this number of likeliest tokens; default: -1, all.
        seed: The seed. Default: the service picks one.
        stop: Ids of tokens, or texts, that end an answer. Default: the model's own.
        prompt_logprobs: Return the log probability of each token of the prompt; default: False.
        topk_prompt_logprobs: For each token of the prompt return this number of likeliest tokens, up to 20;
            default: 0.
        timeout: Seconds until the result must be there; default: 3600.

    Returns:
        The answers, with a log probability for each token.

    Raises:
        ConfigError: An argument is out of bounds, or the checkpoint is a training checkpoint.
        NotFoundError: There is no such session or checkpoint.
        BadRequestError: The service refused the prompt.

    Example:
        >>> checkpoint = client.sessions.save(session, "step-1", kind="sampler")
        >>> client.sessions.sample(session, prompt, checkpoint=checkpoint, max_tokens=64).sequences[0].text
    """
    name = checkpoint.id if isinstance(checkpoint, SessionCheckpoint) else checkpoint
    if isinstance(checkpoint, SessionCheckpoint) and checkpoint.kind != "sampler":
        raise ConfigError(
            f"checkpoint {name!r} is of kind {checkpoint.kind}; samples need one of kind sampler",
            hint=Text.format(
                "Save one: {}.",
                Call("sessions.save", "session", "name", Argument("kind", "sampler")),
            ),
        )
    if not prompt:
        raise ConfigError(
            Text.format("{} has no tokens", Argument("prompt")), hint="Pass at least one token."
        )
    body = requests.build(
        wire.Sample,
        {
            "num_samples": num_samples,
            "prompt": {"chunks": [{"type": "text", "tokens": list(prompt)}]},
            "sampling_params": {
                "max_tokens": max_tokens,
                "temperature": temperature,
                "top_p": top_p,
                "top_k": top_k,
                "seed": seed,
                "stop_criteria": None if stop is None else list(stop),
            },
            "prompt_logprobs": prompt_logprobs,
            "topk_prompt_logprobs": topk_prompt_logprobs,
        },
    )
    query = {"checkpoint_id": name}
    request, result = await requests.run(
        io, wire.SAMPLE, session, body.dump(), timeout, query=query, may_resubmit=True
    )
    return _to_samples(request, result)


async def _run_loss(
    io: IO,
    op: Operation[wire.Accepted],
    session: Session | str,
    body: dict[str, Any],
    timeout_s: float,
) -> LossResult:
    request, result = await requests.run(
        io, op, session, body, timeout_s, may_resubmit=op is wire.FORWARD
    )
    return _to_loss(op.name, request, result)


def _loss_config(
    clip_low: float | None, clip_high: float | None, tau_pos: float | None, tau_neg: float | None
) -> dict[str, float] | None:
    values = {
        "clip_low_threshold": clip_low,
        "clip_high_threshold": clip_high,
        "tau_pos": tau_pos,
        "tau_neg": tau_neg,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return given or None


def _batch(
    examples: Sequence[TrainingExample], loss: LossName, config: dict[str, float] | None
) -> wire.LossInput:
    if len(examples) > wire.MAX_REQUEST_DATA:
        raise ConfigError(
            f"the batch has {len(examples):,} examples, more than {wire.MAX_REQUEST_DATA:,}",
            hint="Call this several times: gradients are added up.",
        )
    data = []
    for number, example in enumerate(examples):
        if not isinstance(example, TrainingExample):
            raise ConfigError(
                f"example {number} is a value of type {type(example).__name__}",
                hint="Use TrainingExample.from_tokens(prompt, answer).",
            )
        tensors = ("target_tokens", "weights", "advantages", "logprobs")
        values = {name: getattr(example, name) for name in tensors}
        data.append(
            {
                "model_input": {"chunks": [{"type": "text", "tokens": list(example.tokens)}]},
                "loss_fn_inputs": {
                    name: {"data": list(numbers)}
                    for name, numbers in values.items()
                    if numbers is not None
                },
            }
        )
    return requests.build(wire.LossInput, {"data": data, "loss_fn": loss, "loss_fn_config": config})


def _to_loss(operation: str, request: str, result: dict[str, Any]) -> LossResult:
    @translate_parse_errors(operation)
    def convert() -> LossResult:
        metrics = result.get("metrics") or {}
        loss = result.get("total_loss")
        outputs = result.get("loss_fn_outputs")
        tensors = (
            [output["logprobs"] for output in outputs]
            if outputs
            else result.get("per_datum_logprobs") or []
        )
        return LossResult(
            loss=metrics.get("total_loss:sum") if loss is None else loss,
            logprobs=tuple(tuple(tensor["data"]) for tensor in tensors),
            metrics=metrics,
            request=request,
            raw=result,
        )

    return convert()


@translate_parse_errors("sessions.optim_step")
def _to_step(request: str, result: dict[str, Any]) -> StepResult:
    metrics = result.get("metrics") or {}
    norm, step = result.get("grad_norm"), result.get("step_count")
    return StepResult(
        step=metrics.get("step_count") if step is None else step,
        grad_norm=metrics.get("skyrl.ai/grad_norm") if norm is None else norm,
        metrics=metrics,
        request=request,
        raw=result,
    )


@translate_parse_errors("sessions.sample")
def _to_samples(request: str, result: dict[str, Any]) -> SampleResult:
    return SampleResult(
        sequences=tuple(
            SampledSequence(
                tokens=item["tokens"],
                text=item.get("text"),
                logprobs=item.get("logprobs") or (),
                raw=item,
            )
            for item in result["sequences"]
        ),
        prompt_logprobs=result.get("prompt_logprobs"),
        topk_prompt_logprobs=result.get("topk_prompt_logprobs"),
        prompt_tokens=result.get("prompt_tokens"),
        metrics=result.get("metrics") or {},
        request=request,
        raw=result,
    )
