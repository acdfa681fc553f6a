"""The end of a run: what was trained is saved, its merge is checked, and the run says that it is done."""

from __future__ import annotations

from typing import Any

from torch import nn  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.training import messages, save
from maas_client.local.training.messages import Emit, emit_message
from maas_client.local.training.model_loss import ModelWithLoss
from maas_client.local.training.setup import TrainingSetup, ValidationProgress
from maas_client.local.training.train import evaluate


def finish(job: TrainingSetup, progress: ValidationProgress, emit: Emit) -> None:
    """Save what was trained, check the merge, and say that it is done. Every process has to take part."""
    weights = job.engine.gather_weights() if job.engine.shards_weights else None
    if job.rank:
        return
    if weights is not None:
        job.reload_unsharded(weights)
    best = progress.best_step
    if job.config.early_stopping and best is not None and best != job.progress.step:
        _go_back(job, best, emit)
    for told in messages.answer_events(job, "The tuned model"):
        emit(told)
    folder = job.output_dir / "adapter"
    if job.config.method == "Full":
        _save_model(job, job.model, folder, progress)
    else:
        trained = {n: w for n, w in job.model_with_loss.named_parameters() if w.requires_grad}
        save.save_adapter(job.model, trained, folder, job.base, job.training_card(progress))
    metrics = progress.metrics() | _merge_guard(job, progress, emit)
    emit(
        {
            "event": "done",
            "adapter": str(folder),
            "steps": job.progress.step,
            "trained_tokens": job.trained_tokens(),
            "metrics": metrics,
        }
    )


def _go_back(job: TrainingSetup, step: int, emit: Emit) -> None:
    """Put the weights of the best validation loss in the place of the last ones."""
    if job.config.method == "Full":
        job.load_weights(save.load_best_weights(job.best_weights_dir, step))
        what = "those weights are"
    else:
        save.load_adapter(job.model, job.adapters_dir / f"step-{step:08d}")
        what = "that adapter is"
    emit_message(emit, f"The best validation loss was at step {step}: {what} kept.")


def _save_model(
    job: TrainingSetup, model: nn.Module, folder: Any, progress: ValidationProgress
) -> None:
    end = job.template.end_of_turn
    save.save_model(model, job.tokenizer, end, folder, job.base, job.training_card(progress))


def _merge_guard(job: TrainingSetup, progress: ValidationProgress, emit: Emit) -> dict[str, float]:
    """Return how far the merged model's loss is from the adapter's, on one batch.

    Not for 4-bit weights, which a merge would round again (export merges them in full width), nor
    for a whole model.
    """
    if job.config.method in ("Full", "QLoRA"):
        return {}
    probe = (job.validation_batches or job.probe_batches)[:1]
    before, _ = evaluate(job.model_with_loss, probe, job.engine.device)
    anything: Any = job.model
    merged = anything.merge_and_unload()
    after, _ = evaluate(ModelWithLoss(merged), probe, job.engine.device)
    if abs(after - before) > 1e-3 * max(1.0, before):
        text = f"Merging changes the loss from {before:.4f} to {after:.4f}: use the adapter."
        emit_message(emit, text, "warning")
    if job.config.merge:
        _save_model(job, merged, job.output_dir / "merged", progress)
    return {"merge_difference": abs(after - before)}
