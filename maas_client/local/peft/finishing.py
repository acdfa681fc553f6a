"""The end of a run: what was trained is saved, its merge is checked, and the run says that it is done."""

from __future__ import annotations

from typing import Any

from torch import nn  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.peft import saving, telling
from maas_client.local.peft.job import Job, Validation
from maas_client.local.peft.learner import Learner
from maas_client.local.peft.telling import Emit, tell
from maas_client.local.peft.train import evaluate


def finish(job: Job, progress: Validation, emit: Emit) -> None:
    """Save what was trained, check the merge, and say that it is done. Every process has to take part."""
    weights = job.engine.trained() if job.engine.divides_weights else None
    if job.rank:
        return
    if weights is not None:
        job.make_whole(weights)
    best = progress.best_step
    if job.recipe.early_stopping and best is not None and best != job.run.step:
        _go_back(job, best, emit)
    for told in telling.answers(job, "The tuned model"):
        emit(told)
    folder = job.out / "adapter"
    if job.recipe.method == "Full":
        _save_model(job, job.model, folder, progress)
    else:
        trained = {n: w for n, w in job.learner.named_parameters() if w.requires_grad}
        saving.save_adapter(job.model, trained, folder, job.base, job.card(progress))
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


def _go_back(job: Job, step: int, emit: Emit) -> None:
    """Put the weights of the best validation loss in the place of the last ones."""
    if job.recipe.method == "Full":
        job.put(saving.load_best(job.best, step))
        what = "those weights are"
    else:
        saving.load_adapter(job.model, job.adapters / f"step-{step:08d}")
        what = "that adapter is"
    tell(emit, f"The best validation loss was at step {step}: {what} kept.")


def _save_model(job: Job, model: nn.Module, folder: Any, progress: Validation) -> None:
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
        tell(emit, text, "warning")
    if job.recipe.merge:
        _save_model(job, merged, job.out / "merged", progress)
    return {"merge_difference": abs(after - before)}
