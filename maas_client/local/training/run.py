"""One job, from its files to its adapter: what the worker process calls.

``run(spec, emit, wishes)``. ``spec``: ``job``, ``model``, ``base`` (``bases.Base.as_dict``),
``train``, ``validation`` or None, ``recipe`` (hyperparameters in any vocabulary), ``out`` (a folder),
``threads``, ``device``. Events are dicts whose ``event`` is ``started``, ``step``, ``eval``,
``message``, ``checkpoint``, ``paused``, ``done`` or ``failed``. ``wishes`` is asked after each step what
the run is to do. Cancelled, it returns without a last word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only

from maas_client.errors import MaasError
from maas_client.local.resources import errors
from maas_client.local.resources.job_states import JobSignal, no_signal
from maas_client.local.state import atomic_folder
from maas_client.local.training import checkpoints, messages, save
from maas_client.local.training.finishing import finish
from maas_client.local.training.messages import Emit
from maas_client.local.training.packing import training_batches
from maas_client.local.training.setup import TrainingSetup, ValidationProgress
from maas_client.local.training.train import StepResult, evaluate, train

CHECKPOINT_INTERVAL_S = 30.0
"""Seconds of training that a killed worker may lose, unless ``save_steps`` says otherwise."""
_ADAPTERS = 3
"""Adapters of past epochs that are kept, beside the best."""


class DivergedError(MaasError):
    """The loss or a gradient is no number any more."""


def run(
    spec: Mapping[str, Any], emit: Emit, next_signal: Callable[[], JobSignal] = no_signal
) -> None:
    """Train what ``spec`` asks for and tell how it goes; see the module's docstring."""
    try:
        torch.set_num_threads(int(spec.get("threads") or torch.get_num_threads()))
        _run(TrainingSetup.from_spec(spec), emit, next_signal)
    except MaasError as error:
        emit({"event": "failed", "code": "UserError", "message": str(error)})
    except Exception as error:
        told = errors.failure_message(error)
        if told is None:
            raise
        emit({"event": "failed", "code": "ServiceError", "message": told})


def _run(job: TrainingSetup, emit: Emit, wishes: Callable[[], JobSignal]) -> None:
    begun = time.monotonic()
    progress = _begin(job, emit)
    saved, steps = time.monotonic(), _steps(job)
    for step in steps:
        if not step.is_finite:
            raise _diverged(step)
        job.seen_tokens += step.tokens
        if step.step % job.config.log_steps == 0 or step.step == job.progress.total_steps:
            told = _step_event(job, step, time.monotonic() - begun)
            job.recent_events.append(told)
            emit(told)
        # The first process is told what is asked, and says it to all.
        wish = JobSignal(job.engine.broadcast(_wish(job, step, wishes())))
        if JobSignal.CANCEL in wish:
            return
        stop = _after(job, step, progress, emit, keep=wish != JobSignal.NONE)
        if stop:
            break
        if wish or job.engine.broadcast(_is_due(job, step, saved)):
            _checkpoint(job, progress)
            saved = time.monotonic()
        if JobSignal.PAUSE in wish:
            emit({"event": "paused", "step": step.step})
            return
    finish(job, progress, emit)


def _wish(job: TrainingSetup, step: StepResult, wish: JobSignal) -> JobSignal:
    """Return what is to be done after ``step``: at the end of a run there is nothing left to keep."""
    return wish & JobSignal.CANCEL if step.step == job.progress.total_steps else wish


def _is_due(job: TrainingSetup, step: StepResult, saved: float) -> bool:
    """Tell whether it is time for a checkpoint that nobody asked for."""
    if step.step == job.progress.total_steps:
        return False
    if job.config.save_steps:
        return step.step % job.config.save_steps == 0
    return time.monotonic() - saved >= CHECKPOINT_INTERVAL_S


def _begin(job: TrainingSetup, emit: Emit) -> ValidationProgress:
    """Resume or measure the base model; tell what is about to run."""
    found = checkpoints.load_newest(job.checkpoints_dir, job.fingerprint)
    messages.emit_start(job, found, emit)
    # One process alone cannot ask a model that is divided: it is asked before.
    asked = [] if found or job.rank else list(messages.answer_events(job, "The base model"))
    job.start_engine(found.state if found else None)
    if job.rank == 0:  # all have chosen by now: they have met
        checkpoints.remove_stale(job.checkpoints_dir, found)
        for folder in (job.output_dir, job.checkpoints_dir, job.adapters_dir, job.best_weights_dir):
            atomic_folder.remove_drafts(folder)
    if found is not None:
        job.progress.step = found.step
        return ValidationProgress(**found.extra["validation"])
    progress = ValidationProgress()
    _evaluate(job, progress, emit)
    for told in asked:
        emit(told)
    return progress


def _steps(job: TrainingSetup) -> Any:
    todo = training_batches(
        job.data.examples,
        job.config,
        limits=job.pack_limits,
        start_step=job.progress.step,
        rank=job.rank,
    )
    return train(job.engine.model, todo, job.config, job.progress, job.engine)


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
    }


def _after(
    job: TrainingSetup, step: StepResult, progress: ValidationProgress, emit: Emit, *, keep: bool
) -> bool:
    """Evaluate, and keep an adapter, where one is due; True when the run should stop early."""
    ended = step.step % job.steps_per_epoch == 0
    due = {
        "epoch": ended,
        "steps": step.step % job.evaluation_interval == 0,
        "disable": False,
    }[job.config.evaluate]
    last = step.step == job.progress.total_steps
    if due or (last and job.config.evaluate != "disable"):
        _evaluate(job, progress, emit)
    if (ended and not last and job.config.epochs > 1) or progress.best_step == step.step or keep:
        _keep_adapter(job, progress, emit)
    return job.config.early_stopping and progress.worse_for >= job.config.patience


def _evaluate(job: TrainingSetup, progress: ValidationProgress, emit: Emit) -> None:
    if not job.validation_batches or job.config.evaluate == "disable":
        return
    loss, accuracy = evaluate(job.engine.model, job.validation_batches, job.engine.device)
    progress.record(job.progress.step, loss, accuracy, job.config.threshold)
    emit(
        {
            "event": "eval",
            "step": job.progress.step,
            "valid_loss": loss,
            "valid_token_accuracy": accuracy,
        }
    )


def _keep_adapter(job: TrainingSetup, progress: ValidationProgress, emit: Emit) -> None:
    """Save the adapter as it is now; the newest few and the best stay. Every process takes part."""
    full = job.config.method == "Full"
    if full and not (job.config.early_stopping and progress.best_step == job.progress.step):
        return
    folder = job.adapters_dir / f"step-{job.progress.step:08d}"
    weights = job.engine.gather_weights()
    if job.rank:
        return
    if full:  # of a whole model the best alone is kept, and that to end with it
        save.save_best_weights(weights, job.best_weights_dir, job.progress.step)
        return
    save.save_adapter(job.model, weights, folder, job.base, job.training_card(progress))
    best = job.adapters_dir / f"step-{progress.best_step or 0:08d}"
    kept = [path for path in sorted(job.adapters_dir.glob("step-*")) if path != best]
    for old in kept[:-_ADAPTERS]:
        save.remove_folder(old)
    emit(
        {
            "event": "checkpoint",
            "step": job.progress.step,
            "adapter": str(folder),
            "metrics": progress.metrics(),
        }
    )


def _checkpoint(job: TrainingSetup, progress: ValidationProgress) -> None:
    """Write down all that is known. Every process has to take part."""
    state = job.engine.gather_state()
    if job.rank:
        return
    notes = {
        "threads": torch.get_num_threads(),
        "validation": progress.as_dict(),
        "recent": list(job.recent_events),
    }
    checkpoints.save_checkpoint(
        job.checkpoints_dir, job.progress.step, state, job.fingerprint, job.config.keep, notes
    )


def _diverged(step: StepResult) -> DivergedError:
    what = "loss" if step.loss != step.loss else "gradient"
    lines = messages.format_lines(list(step.lines))
    return DivergedError(
        f"the {what} is no number any more at step {step.step} (training file, line {lines})",
        hint=f"Lower learning_rate (it was {step.learning_rate:g}) or look at these rows.",
    )
