"""One job, from its files to its adapter: what the worker process calls.

``run(spec, emit, cancelled, paused)``. ``spec``: ``job``, ``model``, ``base`` (``bases.Base.as_dict``),
``train``, ``validation`` or None, ``recipe`` (hyperparameters in any vocabulary), ``out`` (a folder),
``threads``, ``device``. Events are dicts whose ``event`` is ``started``, ``step``, ``eval``,
``message``, ``checkpoint``, ``paused``, ``done`` or ``failed``. Cancelled, it returns without a last word.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import MaasError
from maas_client.local.bases import Base
from maas_client.local.peft import checkpoints, samples, saving
from maas_client.local.peft.examples import Tally
from maas_client.local.peft.job import Job, Validation
from maas_client.local.peft.learner import Learner
from maas_client.local.peft.packs import batches
from maas_client.local.peft.train import Step, evaluate, train
from maas_client.local.state import durable

Emit = Callable[[dict[str, Any]], None]
Asked = Callable[[], bool]
_GOES_ON = "A run under DeepSpeed keeps no checkpoints, so it is not paused: it goes on to its end."
CHECKPOINT_S = 30.0
"""Seconds of training that a killed worker may lose, unless ``save_steps`` says otherwise."""
_ADAPTERS = 3
"""Adapters of past epochs that are kept, beside the best."""


class DivergedError(MaasError):
    """The loss or a gradient is no number any more."""


def run(
    spec: Mapping[str, Any], emit: Emit, cancelled: Asked, paused: Asked = lambda: False
) -> None:
    """Train what ``spec`` asks for and tell how it goes; see the module's docstring."""
    try:
        torch.set_num_threads(int(spec.get("threads") or torch.get_num_threads()))
        _run(Job.prepare(spec), emit, cancelled, paused)
    except MaasError as error:
        emit({"event": "failed", "code": "UserError", "message": str(error)})
    except (MemoryError, RuntimeError, OSError) as error:
        told = _told(error)
        if told is None:
            raise
        emit({"event": "failed", "code": "ServiceError", "message": told})


def _run(job: Job, emit: Emit, cancelled: Asked, paused: Asked) -> None:
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
        rests = paused() and step.step < job.run.total
        if rests and job.engine.stage:  # what DeepSpeed has divided is kept nowhere
            rests, paused = False, _never
            emit({"event": "message", "level": "warning", "message": _GOES_ON})
        stop = _after(job, step, progress, emit, keep=rests)
        if cancelled():
            return
        if stop:
            break
        if rests:  # all that is known is written down, as if the run had not stopped
            _checkpoint(job, progress)
            emit({"event": "paused", "step": step.step})
            return
        if _is_due(job, step, saved):
            _checkpoint(job, progress)
            saved = time.monotonic()
    _finish(job, progress, emit)


def _never() -> bool:
    return False


def _begin(job: Job, emit: Emit) -> Validation:
    """Resume or measure the base model; tell what is about to run."""
    for folder in () if job.engine.rank else (job.out, job.checkpoints, job.adapters):
        durable.sweep(folder)
    notes = checkpoints.resume(
        job.checkpoints, job.learner, job.run, job.mark, job.engine.optimizer
    )
    emit({"event": "started", **job.facts(), "resumed_from": job.run.step if notes else None})
    for told in notes["recent"] if notes else ():
        emit(told)  # a server that was killed may not have written them down
    for text, level in (
        *_tallies("training", job.data.tally),
        *_tallies("validation", job.data.held_tally),
    ):
        emit({"event": "message", "level": level, "message": text})
    for text in job.warnings:
        emit({"event": "message", "level": "warning", "message": text})
    emit({"event": "message", "level": "info", "message": Base(**job.base).sentence()})
    emit({"event": "message", "level": "info", "message": f"Trained: {job.coverage.sentence()}."})
    if notes is not None:
        said = f"Resumed after step {job.run.step} of {job.run.total}."
        if notes["threads"] != torch.get_num_threads():
            said += " The number of threads has changed, so the last bits may differ."
        emit({"event": "message", "level": "info", "message": said})
        return Validation(**notes["validation"])
    progress = Validation()
    _evaluate(job, progress, emit)
    if job.engine.stage < 3:  # one process alone cannot ask a divided model
        _show(job, "The base model", emit)
    return progress


def _show(job: Job, who: str, emit: Emit) -> None:
    """Tell what the model answers to held-out questions now."""
    told = samples.answers(job.model, job.tokenizer, job.template, job.data.samples)
    for sample, answer in told:
        text = f"{who} answers {_short(sample.question)} with {_short(answer)}"
        emit(
            {
                "event": "message",
                "level": "info",
                "message": text,
                "step": job.run.step,
                "sample": {"answer": answer, **sample._asdict()},
            }
        )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line[:80]}…”" if len(line) > 80 else f"“{line}”"


def _tallies(name: str, tally: Tally) -> list[tuple[str, str]]:
    said = []
    if tally.cut:
        said.append((f"{len(tally.cut)} {name} rows were cut at the base's limit", tally.cut))
    if tally.dropped:
        text = f"{len(tally.dropped)} {name} rows have nothing left to learn and were dropped"
        said.append((text, tally.dropped))
    if tally.merged:
        text = f"{len(tally.merged)} {name} rows had their system message merged into the first"
        said.append((f"{text} user message, as the service does", tally.merged))
    return [(f"{text} (line {_lines(lines)}).", "warning") for text, lines in said]


def _lines(lines: list[int]) -> str:
    return ", ".join(map(str, lines[:5])) + (", …" if len(lines) > 5 else "")


def _steps(job: Job) -> Any:
    todo = batches(
        job.data.examples, job.recipe, limits=job.limits, after=job.run.step, rank=job.engine.rank
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
    """Save the adapter as it is now; the newest few and the best stay."""
    if job.recipe.method == "Full":
        return
    folder = job.adapters / f"step-{job.run.step:08d}"
    with job.engine.gathered(w for w in job.model.parameters() if w.requires_grad):
        if job.engine.rank:
            return
        saving.save_adapter(job.model, folder, job.base, job.card(progress))
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


def _is_due(job: Job, step: Step, saved: float) -> bool:
    if step.step == job.run.total or job.engine.stage:
        return False
    if job.recipe.save_steps:
        return step.step % job.recipe.save_steps == 0
    return time.monotonic() - saved >= CHECKPOINT_S


def _checkpoint(job: Job, progress: Validation) -> None:
    if job.engine.rank:
        return
    notes = {
        "threads": torch.get_num_threads(),
        "validation": progress.as_dict(),
        "recent": list(job.recent),
    }
    checkpoints.save(
        job.checkpoints,
        job.learner,
        job.run,
        job.engine.optimizer,
        job.mark,
        job.recipe.keep,
        notes,
    )


def _finish(job: Job, progress: Validation, emit: Emit) -> None:
    """Save what was trained, check the merge, and say that it is done."""
    job.engine.make_whole()
    if job.engine.rank:
        return
    if job.recipe.early_stopping and progress.best_step not in (None, job.run.step):
        text = f"The best validation loss was at step {progress.best_step}: that adapter is kept."
        emit({"event": "message", "level": "info", "message": text})
        saving.load_adapter(job.model, job.adapters / f"step-{progress.best_step:08d}")
    _show(job, "The tuned model", emit)
    folder = job.out / "adapter"
    if job.recipe.method == "Full":
        _save_model(job, job.model, folder, progress)
    else:
        saving.save_adapter(job.model, folder, job.base, job.card(progress))
    metrics = progress.metrics() | _merge_guard(job, progress, emit)
    emit(
        {
            "event": "done",
            "adapter": str(folder),
            "steps": job.run.step,
            "trained_tokens": job.trained_tokens(),
            "metrics": metrics,
        }
    )


def _save_model(job: Job, model: nn.Module, folder: Path, progress: Validation) -> None:
    end = job.template.end_of_turn
    saving.save_model(model, job.tokenizer, end, folder, job.base, job.card(progress))


def _merge_guard(job: Job, progress: Validation, emit: Emit) -> dict[str, float]:
    """Return how far the merged model's loss is from the adapter's, on one batch.

    Not for 4-bit weights, which a merge would round again (export merges them in full width), nor
    for a whole model.
    """
    if job.recipe.method in ("Full", "QLoRA"):
        return {}
    probe = (job.held_out or job.probe)[:1]
    before, _ = evaluate(job.learner, probe, job.engine.device)
    anything: Any = job.model
    merged = anything.merge_and_unload()
    after, _ = evaluate(Learner(merged), probe, job.engine.device)
    if abs(after - before) > 1e-3 * max(1.0, before):
        text = f"Merging changes the loss from {before:.4f} to {after:.4f}: use the adapter."
        emit({"event": "message", "level": "warning", "message": text})
    if job.recipe.merge:
        _save_model(job, merged, job.out / "merged", progress)
    return {"merge_difference": abs(after - before)}


def _diverged(step: Step) -> DivergedError:
    what = "loss" if step.loss != step.loss else "gradient"
    lines = _lines(list(step.lines))
    return DivergedError(
        f"the {what} is no number any more at step {step.step} (training file, line {lines})",
        hint=f"Lower learning_rate (it was {step.learning_rate:g}) or look at these rows.",
    )


def _told(error: BaseException) -> str | None:
    """Return a sentence for the failures a user can do something about, or None."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full: free some space, or give another --state-dir."
    short = ("out of memory", "not enough memory", "can't allocate", "cannot allocate")
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in short):
        return (
            "Memory ran out. Give a smaller batch_size or max_seq_length, "
            "gradient_checkpointing=true, or method QLoRA."
        )
    return None
