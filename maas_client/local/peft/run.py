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
from maas_client.local.peft import checkpoints, saving, telling
from maas_client.local.peft.finishing import finish
from maas_client.local.peft.job import Job, Validation
from maas_client.local.peft.packs import batches
from maas_client.local.peft.telling import Emit
from maas_client.local.peft.train import Step, evaluate, train
from maas_client.local.rules import reasons
from maas_client.local.rules.wishes import Wish, nothing
from maas_client.local.state import durable

CHECKPOINT_S = 30.0
"""Seconds of training that a killed worker may lose, unless ``save_steps`` says otherwise."""
_ADAPTERS = 3
"""Adapters of past epochs that are kept, beside the best."""


class DivergedError(MaasError):
    """The loss or a gradient is no number any more."""


def run(spec: Mapping[str, Any], emit: Emit, wishes: Callable[[], Wish] = nothing) -> None:
    """Train what ``spec`` asks for and tell how it goes; see the module's docstring."""
    try:
        torch.set_num_threads(int(spec.get("threads") or torch.get_num_threads()))
        _run(Job.prepare(spec), emit, wishes)
    except MaasError as error:
        emit({"event": "failed", "code": "UserError", "message": str(error)})
    except Exception as error:
        told = reasons.known(error)
        if told is None:
            raise
        emit({"event": "failed", "code": "ServiceError", "message": told})


def _run(job: Job, emit: Emit, wishes: Callable[[], Wish]) -> None:
    begun = time.monotonic()
    progress = _begin(job, emit)
    saved, steps = time.monotonic(), _steps(job)
    for step in steps:
        if not step.is_sound:
            raise _diverged(step)
        job.seen_tokens += step.tokens
        if step.step % job.recipe.log_steps == 0 or step.step == job.run.total:
            told = _step_event(job, step, time.monotonic() - begun)
            job.recent.append(told)
            emit(told)
        # The first process is told what is asked, and says it to all.
        wish = Wish(job.engine.agree(_wish(job, step, wishes())))
        if Wish.END in wish:
            return
        stop = _after(job, step, progress, emit, keep=wish != Wish.NOTHING)
        if stop:
            break
        if wish or job.engine.agree(_is_due(job, step, saved)):
            _checkpoint(job, progress)
            saved = time.monotonic()
        if Wish.REST in wish:
            emit({"event": "paused", "step": step.step})
            return
    finish(job, progress, emit)


def _wish(job: Job, step: Step, wish: Wish) -> Wish:
    """Return what is to be done after ``step``: at the end of a run there is nothing left to keep."""
    return wish & Wish.END if step.step == job.run.total else wish


def _is_due(job: Job, step: Step, saved: float) -> bool:
    """Tell whether it is time for a checkpoint that nobody asked for."""
    if step.step == job.run.total:
        return False
    if job.recipe.save_steps:
        return step.step % job.recipe.save_steps == 0
    return time.monotonic() - saved >= CHECKPOINT_S


def _begin(job: Job, emit: Emit) -> Validation:
    """Resume or measure the base model; tell what is about to run."""
    found = checkpoints.newest(job.checkpoints, job.mark)
    telling.beginning(job, found, emit)
    # One process alone cannot ask a model that is divided: it is asked before.
    asked = [] if found or job.rank else list(telling.answers(job, "The base model"))
    job.start(found.state if found else None)
    if job.rank == 0:  # all have chosen by now: they have met
        checkpoints.drop_after(job.checkpoints, found)
        for folder in (job.out, job.checkpoints, job.adapters, job.best):
            durable.sweep(folder)
    if found is not None:
        job.run.step = found.step
        return Validation(**found.notes["validation"])
    progress = Validation()
    _evaluate(job, progress, emit)
    for told in asked:
        emit(told)
    return progress


def _steps(job: Job) -> Any:
    todo = batches(
        job.data.examples, job.recipe, limits=job.limits, after=job.run.step, rank=job.rank
    )
    return train(job.engine.learner, todo, job.recipe, job.run, job.engine)


def _step_event(job: Job, step: Step, seconds: float) -> dict[str, Any]:
    return {
        "event": "step",
        "step": step.step,
        "steps": job.run.total,
        "epoch": round(step.epoch, 4),
        "train_loss": step.loss,
        "learning_rate": step.learning_rate,
        "grad_norm": step.grad_norm,
        "learned_tokens": step.learned,
        "tokens_per_s": round(job.seen_tokens / max(seconds, 1e-9), 1),
    }


def _after(job: Job, step: Step, progress: Validation, emit: Emit, *, keep: bool) -> bool:
    """Evaluate, and keep an adapter, where one is due; True when the run should stop early."""
    ended = step.step % job.steps_per_epoch == 0
    due = {
        "epoch": ended,
        "steps": step.step % job.evaluate_every == 0,
        "disable": False,
    }[job.recipe.evaluate]
    last = step.step == job.run.total
    if due or (last and job.recipe.evaluate != "disable"):
        _evaluate(job, progress, emit)
    if (ended and not last and job.recipe.epochs > 1) or progress.best_step == step.step or keep:
        _keep_adapter(job, progress, emit)
    return job.recipe.early_stopping and progress.worse_for >= job.recipe.patience


def _evaluate(job: Job, progress: Validation, emit: Emit) -> None:
    if not job.held_out or job.recipe.evaluate == "disable":
        return
    loss, accuracy = evaluate(job.engine.learner, job.held_out, job.engine.device)
    progress.take(job.run.step, loss, accuracy, job.recipe.threshold)
    emit(
        {
            "event": "eval",
            "step": job.run.step,
            "valid_loss": loss,
            "valid_token_accuracy": accuracy,
        }
    )


def _keep_adapter(job: Job, progress: Validation, emit: Emit) -> None:
    """Save the adapter as it is now; the newest few and the best stay. Every process takes part."""
    full = job.recipe.method == "Full"
    if full and not (job.recipe.early_stopping and progress.best_step == job.run.step):
        return
    folder = job.adapters / f"step-{job.run.step:08d}"
    weights = job.engine.trained()
    if job.rank:
        return
    if full:  # of a whole model the best alone is kept, and that to end with it
        saving.keep_best(weights, job.best, job.run.step)
        return
    saving.save_adapter(job.model, weights, folder, job.base, job.card(progress))
    best = job.adapters / f"step-{progress.best_step or 0:08d}"
    kept = [path for path in sorted(job.adapters.glob("step-*")) if path != best]
    for old in kept[:-_ADAPTERS]:
        saving.remove(old)
    emit(
        {
            "event": "checkpoint",
            "step": job.run.step,
            "adapter": str(folder),
            "metrics": progress.metrics(),
        }
    )


def _checkpoint(job: Job, progress: Validation) -> None:
    """Write down all that is known. Every process has to take part."""
    state = job.engine.state()
    if job.rank:
        return
    notes = {
        "threads": torch.get_num_threads(),
        "validation": progress.as_dict(),
        "recent": list(job.recent),
    }
    checkpoints.save(job.checkpoints, job.run.step, state, job.mark, job.recipe.keep, notes)


def _diverged(step: Step) -> DivergedError:
    what = "loss" if step.loss != step.loss else "gradient"
    lines = telling.lines(list(step.lines))
    return DivergedError(
        f"the {what} is no number any more at step {step.step} (training file, line {lines})",
        hint=f"Lower learning_rate (it was {step.learning_rate:g}) or look at these rows.",
    )
