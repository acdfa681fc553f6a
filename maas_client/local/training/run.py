"""Run one training job, from its files to its adapter. Called by the worker process.

``spec`` has the keys ``job``, ``model``, ``base`` (``BaseWeights.as_dict``), ``train``, ``validation``
(or None), ``hyperparameters`` (in any vocabulary), ``out`` (a folder), ``threads`` and ``device``. A job of
several processes also has ``matmul`` (``MatmulChoice.as_dict``).
Events are dicts whose ``event`` is ``started``, ``step``, ``eval``, ``message``, ``checkpoint``, ``paused``,
``done`` or ``failed``. ``next_signal`` is called after each step. A cancelled run returns without a final
event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import MaasError
from maas_client.local.bases import BaseWeights
from maas_client.local.machine import matmul_choice
from maas_client.local.resources import errors
from maas_client.local.resources.job_states import JobSignal, no_signal
from maas_client.local.state import atomic_folder
from maas_client.local.training import checkpoints, save
from maas_client.local.training.checkpoints import Checkpoint
from maas_client.local.training.data import RowCounts, generate_answers
from maas_client.local.training.packing import training_batches
from maas_client.local.training.setup import TrainingSetup, ValidationProgress, add_loss
from maas_client.local.training.train import StepResult, evaluate, train

Emit = Callable[[dict[str, Any]], None]
CHECKPOINT_INTERVAL_S = 30.0
"""Seconds of training that a killed worker may lose, unless ``save_steps`` says otherwise."""
_ADAPTERS_KEPT = 3
"""Adapters of past epochs that are kept, besides the best."""


class DivergedError(MaasError):
    """The loss or a gradient is not a finite number."""


def run(
    spec: Mapping[str, Any], emit: Emit, next_signal: Callable[[], JobSignal] = no_signal
) -> None:
    """Train as ``spec`` says and report through ``emit``; see the module's docstring."""
    try:
        torch.set_num_threads(int(spec.get("threads") or torch.get_num_threads()))
        _run(TrainingSetup.from_spec(spec), emit, next_signal)
    except MaasError as error:
        emit({"event": "failed", "code": "UserError", "message": str(error)})
    except Exception as error:
        message = errors.failure_message(error)
        if message is None:
            raise
        emit({"event": "failed", "code": "ServiceError", "message": message})


def _run(setup: TrainingSetup, emit: Emit, next_signal: Callable[[], JobSignal]) -> None:
    started_at = time.monotonic()
    validation = _start(setup, emit)
    saved_at, steps = time.monotonic(), _steps(setup)
    for step in steps:
        if not step.is_finite:
            raise _diverged(step)
        setup.seen_tokens += step.tokens
        if step.step % setup.config.log_steps == 0 or step.step == setup.progress.total_steps:
            event = _step_event(setup, step, time.monotonic() - started_at)
            setup.recent_events.append(event)
            emit(event)
        # Only the first process receives signals; it broadcasts them to the others.
        signal = JobSignal(setup.engine.broadcast(_effective_signal(setup, step, next_signal())))
        if JobSignal.CANCEL in signal:
            return
        stop = _evaluate_and_keep(setup, step, validation, emit, keep=signal != JobSignal.NONE)
        if stop:
            break
        if signal or setup.engine.broadcast(_is_due(setup, step, saved_at)):
            _checkpoint(setup, validation)
            saved_at = time.monotonic()
        if JobSignal.PAUSE in signal:
            emit({"event": "paused", "step": step.step})
            return
    finish(setup, validation, emit)


def _effective_signal(setup: TrainingSetup, step: StepResult, signal: JobSignal) -> JobSignal:
    """Return the signal to obey after ``step``; after the last step only a cancellation counts."""
    return signal & JobSignal.CANCEL if step.step == setup.progress.total_steps else signal


def _is_due(setup: TrainingSetup, step: StepResult, saved_at: float) -> bool:
    """Return whether a periodic checkpoint is due."""
    if step.step == setup.progress.total_steps:
        return False
    if setup.config.save_steps:
        return step.step % setup.config.save_steps == 0
    return time.monotonic() - saved_at >= CHECKPOINT_INTERVAL_S


def _start(setup: TrainingSetup, emit: Emit) -> ValidationProgress:
    """Report the start, resume from a checkpoint, or else evaluate the base model."""
    checkpoint = checkpoints.load_newest(setup.checkpoints_dir, setup.fingerprint)
    emit_start(setup, checkpoint, emit)
    # A single process cannot generate with a sharded model, so generate before sharding.
    base_answers = [] if checkpoint or setup.rank else list(answer_events(setup, "The base model"))
    setup.start_engine(checkpoint.state if checkpoint else None)
    if (
        setup.rank == 0
    ):  # start_engine has synchronised the processes: all have chosen their checkpoint
        checkpoints.remove_stale(setup.checkpoints_dir, checkpoint)
        for folder in (
            setup.output_dir,
            setup.checkpoints_dir,
            setup.adapters_dir,
            setup.best_weights_dir,
        ):
            atomic_folder.remove_drafts(folder)
    if checkpoint is not None:
        setup.progress.step = checkpoint.step
        return ValidationProgress(**checkpoint.extra["validation"])
    validation = ValidationProgress()
    _evaluate(setup, validation, emit)
    for event in base_answers:
        emit(event)
    return validation


def _steps(setup: TrainingSetup) -> Any:
    batches = training_batches(
        setup.data.examples,
        setup.config,
        limits=setup.pack_limits,
        start_step=setup.progress.step,
        rank=setup.rank,
    )
    return train(setup.engine.model, batches, setup.config, setup.progress, setup.engine)


def _step_event(setup: TrainingSetup, step: StepResult, seconds: float) -> dict[str, Any]:
    return {
        "event": "step",
        "step": step.step,
        "steps": setup.progress.total_steps,
        "epoch": round(step.epoch, 4),
        "train_loss": step.loss,
        "learning_rate": step.learning_rate,
        "grad_norm": step.grad_norm,
        "learned_tokens": step.learned_tokens,
        "tokens_per_s": round(setup.seen_tokens / max(seconds, 1e-9), 1),
        **{f"train_reward_{name}": value for name, value in step.rewards.items()},
    }


def _evaluate_and_keep(
    setup: TrainingSetup,
    step: StepResult,
    validation: ValidationProgress,
    emit: Emit,
    *,
    keep: bool,
) -> bool:
    """Evaluate and save an adapter where due; return True to stop early."""
    epoch_ended = step.step % setup.steps_per_epoch == 0
    is_due = {
        "epoch": epoch_ended,
        "steps": step.step % setup.evaluation_interval == 0,
        "disable": False,
    }[setup.config.evaluate]
    is_last_step = step.step == setup.progress.total_steps
    if is_due or (is_last_step and setup.config.evaluate != "disable"):
        _evaluate(setup, validation, emit)
    if (
        (epoch_ended and not is_last_step and setup.config.epochs > 1)
        or validation.best_step == step.step
        or keep
    ):
        _keep_adapter(setup, validation, emit)
    return (
        setup.config.early_stopping and validation.worse_for >= setup.config.early_stopping_patience
    )


def _evaluate(setup: TrainingSetup, validation: ValidationProgress, emit: Emit) -> None:
    if not setup.validation_batches or setup.config.evaluate == "disable":
        return
    evaluation = evaluate(setup.engine.model, setup.validation_batches, setup.engine.device)
    validation.record(setup.progress.step, evaluation, setup.config.early_stopping_threshold)
    emit({"event": "eval", "step": setup.progress.step, **validation.latest()})


def _keep_adapter(setup: TrainingSetup, validation: ValidationProgress, emit: Emit) -> None:
    """Save the current adapter; keep the newest few and the best. Every process must call this."""
    is_full = setup.config.method == "Full"
    if is_full and not (
        setup.config.early_stopping and validation.best_step == setup.progress.step
    ):
        return
    folder = setup.adapters_dir / f"step-{setup.progress.step:08d}"
    weights = setup.engine.gather_weights()
    if setup.rank:
        return
    if is_full:  # of a whole model only the best weights are kept, to restore them at the end
        save.save_best_weights(weights, setup.best_weights_dir, setup.progress.step)
        return
    save.save_adapter(setup.model, weights, folder, setup.base, setup.training_metadata(validation))
    best = setup.adapters_dir / f"step-{validation.best_step or 0:08d}"
    old_folders = [path for path in sorted(setup.adapters_dir.glob("step-*")) if path != best]
    for old_folder in old_folders[:-_ADAPTERS_KEPT]:
        save.remove_folder(old_folder)
    emit(
        {
            "event": "checkpoint",
            "step": setup.progress.step,
            "adapter": str(folder),
            "metrics": validation.metrics(),
        }
    )


def _checkpoint(setup: TrainingSetup, validation: ValidationProgress) -> None:
    """Write a checkpoint. Every process must call this."""
    state = setup.engine.gather_state()
    if setup.rank:
        return
    extra = {
        "threads": torch.get_num_threads(),
        "matmul": matmul_choice.current().as_dict(),
        "validation": validation.as_dict(),
        "recent": list(setup.recent_events),
    }
    checkpoints.save_checkpoint(
        setup.checkpoints_dir,
        setup.progress.step,
        state,
        setup.fingerprint,
        setup.config.save_total_limit,
        extra,
    )


def _diverged(step: StepResult) -> DivergedError:
    quantity = "loss" if step.loss != step.loss else "gradient"
    lines = format_lines(list(step.lines))
    return DivergedError(
        f"The {quantity} is not a finite number at step {step.step} (training file, line {lines}).",
        hint=f"Lower learning_rate (it was {step.learning_rate:g}), or check these rows.",
    )


def finish(setup: TrainingSetup, validation: ValidationProgress, emit: Emit) -> None:
    """Save the result, check the merge, and report the end. Every process must call this."""
    weights = setup.engine.gather_weights() if setup.engine.shards_weights else None
    if setup.rank:
        return
    if weights is not None:
        setup.reload_unsharded(weights)
    best = validation.best_step
    if setup.config.early_stopping and best is not None and best != setup.progress.step:
        _restore_best(setup, best, emit)
    for event in answer_events(setup, "The tuned model"):
        emit(event)
    folder = setup.output_dir / "adapter"
    if setup.config.method == "Full":
        _save_model(setup, setup.model, folder, validation)
    else:
        trained = {n: w for n, w in setup.model_with_loss.named_parameters() if w.requires_grad}
        save.save_adapter(
            setup.model, trained, folder, setup.base, setup.training_metadata(validation)
        )
    metrics = validation.metrics() | _merge_guard(setup, validation, emit)
    emit(
        {
            "event": "done",
            "adapter": str(folder),
            "steps": setup.progress.step,
            "passes": setup.passes,
            "trained_tokens": setup.trained_tokens(),
            "metrics": metrics,
        }
    )


def _restore_best(setup: TrainingSetup, step: int, emit: Emit) -> None:
    """Replace the last weights by those of the best validation loss."""
    if setup.config.method == "Full":
        setup.load_weights(save.load_best_weights(setup.best_weights_dir, step))
        subject = "those weights are"
    else:
        save.load_adapter(setup.model, setup.adapters_dir / f"step-{step:08d}")
        subject = "that adapter is"
    emit_message(emit, f"The best validation loss was at step {step}: {subject} kept.")


def _save_model(
    setup: TrainingSetup, model: nn.Module, folder: Any, validation: ValidationProgress
) -> None:
    end_of_turn = setup.template.end_of_turn
    save.save_model(
        model, setup.tokenizer, end_of_turn, folder, setup.base, setup.training_metadata(validation)
    )


def _merge_guard(
    setup: TrainingSetup, validation: ValidationProgress, emit: Emit
) -> dict[str, float]:
    """Return the difference in loss between the merged model and the adapter, on one batch.

    Skipped for 4-bit weights, which a merge would round again (export merges them in full precision), and
    for method Full.
    """
    if setup.config.method in ("Full", "QLoRA"):
        return {}
    batches = (setup.validation_batches or setup.comparison_batches)[:1]
    loss_before = evaluate(setup.model_with_loss, batches, setup.engine.device).loss
    peft_model: Any = setup.model
    merged = peft_model.merge_and_unload()
    loss_after = evaluate(add_loss(merged, setup.config), batches, setup.engine.device).loss
    if abs(loss_after - loss_before) > 1e-3 * max(1.0, loss_before):
        warning = (
            f"Merging changes the loss from {loss_before:.4f} to {loss_after:.4f}: use the adapter."
        )
        emit_message(emit, warning, "warning")
    if setup.config.merge:
        _save_model(setup, merged, setup.output_dir / "merged", validation)
    return {"merge_difference": abs(loss_after - loss_before)}


def emit_message(emit: Emit, text: str, level: str = "info") -> None:
    """Emit a ``message`` event."""
    emit({"event": "message", "level": level, "message": text})


def emit_start(setup: TrainingSetup, checkpoint: Checkpoint | None, emit: Emit) -> None:
    """Emit ``started`` and the messages about data, base, adapters and checkpoint."""
    emit(
        {
            "event": "started",
            **setup.describe(),
            "resumed_from": checkpoint.step if checkpoint else None,
        }
    )
    for event in checkpoint.extra["recent"] if checkpoint else ():
        emit(event)  # a server that was killed may not have stored them
    for name, counts in (
        ("training", setup.data.row_counts),
        ("validation", setup.data.validation_row_counts),
    ):
        for text in _describe_changed_rows(name, counts):
            emit_message(emit, text, "warning")
    for text in setup.warnings:
        emit_message(emit, text, "warning")
    emit_message(emit, BaseWeights(**setup.base).describe())
    emit_message(emit, f"Trained: {setup.coverage.describe()}.")
    if setup.device == "cpu":
        emit_message(emit, matmul_choice.current().describe())
    if setup.config.processes > 1 or setup.config.deepspeed_stage:
        emit_message(emit, f"Runs in {setup.placement}.")
    if damaged_step := checkpoints.find_damaged(setup.checkpoints_dir, checkpoint):
        text = f"The checkpoint after step {damaged_step} is damaged."
        emit_message(emit, text + ("" if checkpoint else " Training starts again."), "warning")
    if checkpoint is not None:
        text = f"Resumed after step {checkpoint.step} of {setup.progress.total_steps}."
        if checkpoint.extra["threads"] != torch.get_num_threads():
            text += " The number of threads has changed, so results may differ in the last bits."
        emit_message(emit, text)


def answer_events(setup: TrainingSetup, model_name: str) -> Iterator[dict[str, Any]]:
    """Yield the current answers to sample questions of the validation data, as events."""
    answers = generate_answers(setup.model, setup.tokenizer, setup.template, setup.data.samples)
    for sample, answer in answers:
        yield {
            "event": "message",
            "level": "info",
            "message": f"{model_name} answers {_short(sample.question)} with {_short(answer)}",
            "step": setup.progress.step,
            "sample": {"answer": answer, **sample._asdict()},
        }


def format_lines(numbers: list[int]) -> str:
    """Return the first five line numbers as text."""
    return ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return f"“{one_line[:80]}…”" if len(one_line) > 80 else f"“{one_line}”"


def _describe_changed_rows(name: str, counts: RowCounts) -> list[str]:
    changes = [
        ("were truncated at the model's limit", counts.truncated),
        ("have no tokens to train on and were dropped", counts.dropped),
        (
            "had their system message merged into the first user message, as the service does",
            counts.merged,
        ),
    ]
    return [
        f"{len(lines)} {name} rows {change} (line {format_lines(lines)})."
        for change, lines in changes
        if lines
    ]
