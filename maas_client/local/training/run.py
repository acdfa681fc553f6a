"""Run one training job, from its files to its adapter. Called by the worker process.

``spec`` has the keys ``job``, ``model``, ``base`` (``BaseWeights.as_dict``), ``train``, ``validation``
(or None), ``hyperparameters`` (in any vocabulary), ``out`` (a folder), ``threads`` and ``device``.
Events are dicts whose ``event`` is ``started``, ``step``, ``eval``, ``message``, ``checkpoint``, ``paused``,
``done`` or ``failed``. ``next_signal`` is called after each step. A cancelled run returns without a final
event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import MaasError
from maas_client.local.resources import errors
from maas_client.local.resources.job_states import JobSignal, no_signal
from maas_client.local.state import atomic_folder
from maas_client.local.training import checkpoints, run_messages, save
from maas_client.local.training.packing import training_batches
from maas_client.local.training.run_messages import Emit, emit_message
from maas_client.local.training.setup import TrainingSetup, ValidationProgress, add_loss
from maas_client.local.training.train import StepResult, evaluate, train

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


def _run(job: TrainingSetup, emit: Emit, next_signal: Callable[[], JobSignal]) -> None:
    started_at = time.monotonic()
    validation = _start(job, emit)
    saved_at, steps = time.monotonic(), _steps(job)
    for step in steps:
        if not step.is_finite:
            raise _diverged(step)
        job.seen_tokens += step.tokens
        if step.step % job.config.log_steps == 0 or step.step == job.progress.total_steps:
            event = _step_event(job, step, time.monotonic() - started_at)
            job.recent_events.append(event)
            emit(event)
        # Only the first process receives signals; it broadcasts them to the others.
        signal = JobSignal(job.engine.broadcast(_effective_signal(job, step, next_signal())))
        if JobSignal.CANCEL in signal:
            return
        stop = _evaluate_and_keep(job, step, validation, emit, keep=signal != JobSignal.NONE)
        if stop:
            break
        if signal or job.engine.broadcast(_is_due(job, step, saved_at)):
            _checkpoint(job, validation)
            saved_at = time.monotonic()
        if JobSignal.PAUSE in signal:
            emit({"event": "paused", "step": step.step})
            return
    finish(job, validation, emit)


def _effective_signal(job: TrainingSetup, step: StepResult, signal: JobSignal) -> JobSignal:
    """Return the signal to obey after ``step``; after the last step only a cancellation counts."""
    return signal & JobSignal.CANCEL if step.step == job.progress.total_steps else signal


def _is_due(job: TrainingSetup, step: StepResult, saved_at: float) -> bool:
    """Return whether a periodic checkpoint is due."""
    if step.step == job.progress.total_steps:
        return False
    if job.config.save_steps:
        return step.step % job.config.save_steps == 0
    return time.monotonic() - saved_at >= CHECKPOINT_INTERVAL_S


def _start(job: TrainingSetup, emit: Emit) -> ValidationProgress:
    """Report the start, resume from a checkpoint, or else evaluate the base model."""
    checkpoint = checkpoints.load_newest(job.checkpoints_dir, job.fingerprint)
    run_messages.emit_start(job, checkpoint, emit)
    # A single process cannot generate with a sharded model, so generate before sharding.
    base_answers = (
        [] if checkpoint or job.rank else list(run_messages.answer_events(job, "The base model"))
    )
    job.start_engine(checkpoint.state if checkpoint else None)
    if (
        job.rank == 0
    ):  # start_engine has synchronised the processes: all have chosen their checkpoint
        checkpoints.remove_stale(job.checkpoints_dir, checkpoint)
        for folder in (job.output_dir, job.checkpoints_dir, job.adapters_dir, job.best_weights_dir):
            atomic_folder.remove_drafts(folder)
    if checkpoint is not None:
        job.progress.step = checkpoint.step
        return ValidationProgress(**checkpoint.extra["validation"])
    validation = ValidationProgress()
    _evaluate(job, validation, emit)
    for event in base_answers:
        emit(event)
    return validation


def _steps(job: TrainingSetup) -> Any:
    batches = training_batches(
        job.data.examples,
        job.config,
        limits=job.pack_limits,
        start_step=job.progress.step,
        rank=job.rank,
    )
    return train(job.engine.model, batches, job.config, job.progress, job.engine)


def _step_event(job: TrainingSetup, step: StepResult, seconds: float) -> dict[str, Any]:
    return {
        "event": "step",
        "step": step.step,
        "steps": job.progress.total_steps,
        "epoch": round(step.epoch, 4),
        "train_loss": step.loss,
        "learning_rate": step.learning_rate,
        "grad_norm": step.grad_norm,
        "learned_tokens": step.learned_tokens,
        "tokens_per_s": round(job.seen_tokens / max(seconds, 1e-9), 1),
        **{f"train_reward_{name}": value for name, value in step.rewards.items()},
    }


def _evaluate_and_keep(
    job: TrainingSetup, step: StepResult, validation: ValidationProgress, emit: Emit, *, keep: bool
) -> bool:
    """Evaluate and save an adapter where due; return True to stop early."""
    epoch_ended = step.step % job.steps_per_epoch == 0
    is_due = {
        "epoch": epoch_ended,
        "steps": step.step % job.evaluation_interval == 0,
        "disable": False,
    }[job.config.evaluate]
    is_last_step = step.step == job.progress.total_steps
    if is_due or (is_last_step and job.config.evaluate != "disable"):
        _evaluate(job, validation, emit)
    if (
        (epoch_ended and not is_last_step and job.config.epochs > 1)
        or validation.best_step == step.step
        or keep
    ):
        _keep_adapter(job, validation, emit)
    return job.config.early_stopping and validation.worse_for >= job.config.early_stopping_patience


def _evaluate(job: TrainingSetup, validation: ValidationProgress, emit: Emit) -> None:
    if not job.validation_batches or job.config.evaluate == "disable":
        return
    evaluation = evaluate(job.engine.model, job.validation_batches, job.engine.device)
    validation.record(job.progress.step, evaluation, job.config.early_stopping_threshold)
    emit({"event": "eval", "step": job.progress.step, **validation.latest()})


def _keep_adapter(job: TrainingSetup, validation: ValidationProgress, emit: Emit) -> None:
    """Save the current adapter; keep the newest few and the best. Every process must call this."""
    is_full = job.config.method == "Full"
    if is_full and not (job.config.early_stopping and validation.best_step == job.progress.step):
        return
    folder = job.adapters_dir / f"step-{job.progress.step:08d}"
    weights = job.engine.gather_weights()
    if job.rank:
        return
    if is_full:  # of a whole model only the best weights are kept, to restore them at the end
        save.save_best_weights(weights, job.best_weights_dir, job.progress.step)
        return
    save.save_adapter(job.model, weights, folder, job.base, job.training_metadata(validation))
    best = job.adapters_dir / f"step-{validation.best_step or 0:08d}"
    old_folders = [path for path in sorted(job.adapters_dir.glob("step-*")) if path != best]
    for old_folder in old_folders[:-_ADAPTERS_KEPT]:
        save.remove_folder(old_folder)
    emit(
        {
            "event": "checkpoint",
            "step": job.progress.step,
            "adapter": str(folder),
            "metrics": validation.metrics(),
        }
    )


def _checkpoint(job: TrainingSetup, validation: ValidationProgress) -> None:
    """Write a checkpoint. Every process must call this."""
    state = job.engine.gather_state()
    if job.rank:
        return
    extra = {
        "threads": torch.get_num_threads(),
        "validation": validation.as_dict(),
        "recent": list(job.recent_events),
    }
    checkpoints.save_checkpoint(
        job.checkpoints_dir,
        job.progress.step,
        state,
        job.fingerprint,
        job.config.save_total_limit,
        extra,
    )


def _diverged(step: StepResult) -> DivergedError:
    quantity = "loss" if step.loss != step.loss else "gradient"
    lines = run_messages.format_lines(list(step.lines))
    return DivergedError(
        f"The {quantity} is not a finite number at step {step.step} (training file, line {lines}).",
        hint=f"Lower learning_rate (it was {step.learning_rate:g}), or check these rows.",
    )


def finish(job: TrainingSetup, validation: ValidationProgress, emit: Emit) -> None:
    """Save the result, check the merge, and report the end. Every process must call this."""
    weights = job.engine.gather_weights() if job.engine.shards_weights else None
    if job.rank:
        return
    if weights is not None:
        job.reload_unsharded(weights)
    best = validation.best_step
    if job.config.early_stopping and best is not None and best != job.progress.step:
        _restore_best(job, best, emit)
    for event in run_messages.answer_events(job, "The tuned model"):
        emit(event)
    folder = job.output_dir / "adapter"
    if job.config.method == "Full":
        _save_model(job, job.model, folder, validation)
    else:
        trained = {n: w for n, w in job.model_with_loss.named_parameters() if w.requires_grad}
        save.save_adapter(job.model, trained, folder, job.base, job.training_metadata(validation))
    metrics = validation.metrics() | _merge_guard(job, validation, emit)
    emit(
        {
            "event": "done",
            "adapter": str(folder),
            "steps": job.progress.step,
            "passes": job.passes,
            "trained_tokens": job.trained_tokens(),
            "metrics": metrics,
        }
    )


def _restore_best(job: TrainingSetup, step: int, emit: Emit) -> None:
    """Replace the last weights by those of the best validation loss."""
    if job.config.method == "Full":
        job.load_weights(save.load_best_weights(job.best_weights_dir, step))
        subject = "those weights are"
    else:
        save.load_adapter(job.model, job.adapters_dir / f"step-{step:08d}")
        subject = "that adapter is"
    emit_message(emit, f"The best validation loss was at step {step}: {subject} kept.")


def _save_model(
    job: TrainingSetup, model: nn.Module, folder: Any, validation: ValidationProgress
) -> None:
    end_of_turn = job.template.end_of_turn
    save.save_model(
        model, job.tokenizer, end_of_turn, folder, job.base, job.training_metadata(validation)
    )


def _merge_guard(
    job: TrainingSetup, validation: ValidationProgress, emit: Emit
) -> dict[str, float]:
    """Return the difference in loss between the merged model and the adapter, on one batch.

    Skipped for 4-bit weights, which a merge would round again (export merges them in full precision), and
    for method Full.
    """
    if job.config.method in ("Full", "QLoRA"):
        return {}
    batches = (job.validation_batches or job.comparison_batches)[:1]
    loss_before = evaluate(job.model_with_loss, batches, job.engine.device).loss
    peft_model: Any = job.model
    merged = peft_model.merge_and_unload()
    loss_after = evaluate(add_loss(merged, job.config), batches, job.engine.device).loss
    if abs(loss_after - loss_before) > 1e-3 * max(1.0, loss_before):
        warning = (
            f"Merging changes the loss from {loss_before:.4f} to {loss_after:.4f}: use the adapter."
        )
        emit_message(emit, warning, "warning")
    if job.config.merge:
        _save_model(job, merged, job.output_dir / "merged", validation)
    return {"merge_difference": abs(loss_after - loss_before)}
