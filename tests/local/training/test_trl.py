"""Losses equal those of TRL's SFTTrainer on the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.bases import BaseWeights  # noqa: E402 - after the skips
from maas_client.local.resources.training_config import TrainingConfig  # noqa: E402
from maas_client.local.training import adapters, load_base, strategies  # noqa: E402
from maas_client.local.training.data import Example  # noqa: E402
from maas_client.local.training.model_loss import ModelWithLoss  # noqa: E402
from maas_client.local.training.packing import PackLimits, training_batches  # noqa: E402
from maas_client.local.training.train import RunProgress, create_optimizer, train  # noqa: E402

CONFIG = TrainingConfig(batch_size=4, epochs=2, learning_rate=1e-3, warmup_steps=2)


def trl_settings(config: TrainingConfig, folder: Path) -> dict[str, Any]:
    """Return the settings with which a trainer of TRL does what ours does, for an epoch without files."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": config.batch_size,
        "num_train_epochs": 1,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "lr_scheduler_type": config.lr_scheduler_type,
        "weight_decay": config.weight_decay,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "max_length": None,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }


def their_losses(base: BaseWeights, ordered: list[Example], folder: Path) -> list[float]:
    import datasets
    import peft
    import transformers
    import trl

    model = transformers.AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base.folder)
    torch.manual_seed(CONFIG.seed)
    model.requires_grad_(False)
    config = peft.LoraConfig(
        r=8,
        lora_alpha=128,
        target_modules=["down_proj", "gate_up_proj", "o_proj", "qkv_proj"],
        task_type="CAUSAL_LM",
    )
    labels = [
        [i if marked else -100 for i, marked in zip(e.input_ids, e.loss_mask, strict=True)]
        for e in ordered
    ]
    data = datasets.Dataset.from_dict(
        {"input_ids": [e.input_ids for e in ordered], "labels": labels}
    )
    losses: list[float] = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]  # trl and transformers have no types
        def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    class InOrder(trl.SFTTrainer):  # type: ignore[misc]  # trl and transformers have no types
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    settings = trl.SFTConfig(
        **trl_settings(CONFIG, folder),
        shuffle_dataset=False,
    )
    InOrder(
        model=peft.get_peft_model(model, config),
        args=settings,
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[Watch()],
    ).train()
    return losses


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_losses_match_trl(base: BaseWeights, examples: list[Example], tmp_path: Path) -> None:
    pytest.importorskip("trl")
    todo = list(training_batches(examples, CONFIG, limits=PackLimits()))
    by_line = {example.line: example for example in examples}
    ordered = [by_line[line] for batch in todo for line in batch.lines]
    model, _ = adapters.make_trainable(load_base.load_model(base.folder, CONFIG, "cpu"), CONFIG)
    learner = ModelWithLoss(model)
    engine = strategies.prepare_strategy(learner, create_optimizer(learner, CONFIG), "cpu", CONFIG)
    run = RunProgress(total_steps=CONFIG.total_steps(len(examples)))
    losses = [step.loss for step in train(engine.model, todo, CONFIG, run, engine)]
    assert len(losses) == 6
    assert losses == pytest.approx(their_losses(base, ordered, tmp_path), abs=2e-4)
    assert losses[-1] < losses[0] - 0.3
