"""Packed training gives the losses and gradients of one example at a time, for every method.

The reference is plain PEFT with transformers' attention, one document per forward.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from maas_client.local.bases import BaseWeights  # noqa: E402 - after the skips
from maas_client.local.machine import matmul_choice, onednn  # noqa: E402
from maas_client.local.resources.training_config import TrainingConfig  # noqa: E402
from maas_client.local.training import adapters, load_base, strategies  # noqa: E402
from maas_client.local.training.data import Example  # noqa: E402
from maas_client.local.training.model_loss import ModelWithLoss  # noqa: E402
from maas_client.local.training.packing import PackLimits, training_batches  # noqa: E402
from maas_client.local.training.train import RunProgress, create_optimizer, train  # noqa: E402

METHODS = ["LoRA", "rsLoRA", "DoRA", "QLoRA", "Full"]
NEAR = 1e-4


def config_for(method: str, **options: Any) -> TrainingConfig:
    return TrainingConfig(
        method=method,  # type: ignore[arg-type]
        learning_rate=1e-3,
        batch_size=options.pop("batch_size", 4),
        max_grad_norm=0.0,
        **options,
    )


def plain_model(base: BaseWeights, config: TrainingConfig) -> torch.nn.Module:
    extra: dict[str, Any] = {}
    if config.method == "QLoRA":
        extra["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base.folder, dtype=torch.float32, **extra
    )
    if config.method == "Full":
        return model
    import peft

    model.requires_grad_(False)
    torch.manual_seed(config.seed)
    lora_config = peft.LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
        use_dora=config.method == "DoRA",
        use_rslora=config.method == "rsLoRA",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(model, lora_config)


def plain_steps(
    base: BaseWeights, config: TrainingConfig, examples: list[Example]
) -> list[tuple[float, dict[str, torch.Tensor]]]:
    """Losses and gradients, one example per forward."""
    model = plain_model(base, config)
    model.train()
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, eps=config.epsilon, weight_decay=0.0
    )
    by_line = {example.line: example for example in examples}
    losses = []
    todo = list(training_batches(examples, config, limits=PackLimits()))
    for batch in todo:
        total = 0.0
        for line in batch.lines:
            example = by_line[line]
            logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
            targets = torch.tensor(example.input_ids)[1:]
            mask = torch.tensor(example.loss_mask)[1:]
            loss = torch.nn.functional.cross_entropy(logits[mask], targets[mask], reduction="sum")
            (loss / batch.learned_tokens).backward()
            total += loss.item()
        grads = {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}
        losses.append((total / batch.learned_tokens, grads))
        optimizer.step()
        optimizer.zero_grad()
    return losses


def our_steps(
    base: BaseWeights, config: TrainingConfig, examples: list[Example], limits: PackLimits
) -> list[tuple[float, dict[str, torch.Tensor]]]:
    model, _ = adapters.make_trainable(load_base.load_model(base.folder, config, "cpu"), config)
    load_base.enable_activation_checkpointing(model, config)
    learner = ModelWithLoss(model)
    engine = strategies.prepare_strategy(learner, create_optimizer(learner, config), "cpu", config)
    gradients: list[dict[str, torch.Tensor]] = []
    step_of = engine.optimizer.step

    def spy(*args: Any, **kwargs: Any) -> Any:
        gradients.append(
            {
                name.removeprefix("model."): w.grad.clone()
                for name, w in learner.named_parameters()
                if w.grad is not None
            }
        )
        return step_of(*args, **kwargs)

    engine.optimizer.step = spy
    run = RunProgress(total_steps=config.total_steps(len(examples)))
    todo = training_batches(examples, config, limits=limits)
    losses = [step.loss for step in train(engine.model, todo, config, run, engine)]
    return list(zip(losses, gradients, strict=True))


def assert_same(packed: list[Any], plain: list[Any]) -> None:
    assert len(packed) == len(plain) > 1
    for (our_loss, our_grads), (loss, grads) in zip(packed, plain, strict=True):
        assert our_loss == pytest.approx(loss, abs=NEAR)
        assert set(our_grads) == set(grads)
        largest = max(float(grad.abs().max()) for grad in grads.values())
        assert largest > 1e-3, "there is something to compare"
        for name, grad in grads.items():
            assert float((our_grads[name] - grad).abs().max()) < NEAR * max(1.0, largest), name


@pytest.mark.parametrize("method", METHODS)
def test_packed_training_matches_single_documents(
    method: str, base: BaseWeights, examples: list[Example]
) -> None:
    config = config_for(method, lr_scheduler_type="constant", weight_decay=0.0)
    assert_same(
        our_steps(base, config, examples, PackLimits()), plain_steps(base, config, examples)
    )


@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        *(("LoRA", (kind,)) for kind in matmul_choice.KINDS),
        *((method, matmul_choice.KINDS) for method in ("LoRA", "DoRA", "QLoRA", "Full")),
    ],
)
def test_training_with_each_choice_of_products_matches_single_documents(
    method: str,
    kinds: tuple[str, ...],
    base: BaseWeights,
    examples: list[Example],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onednn, "_LEAST_MULTIPLICATIONS", 0)
    monkeypatch.setattr(
        matmul_choice, "choose", lambda *_, **__: matmul_choice.MatmulChoice(kinds, 0.5)
    )
    # AdamW turns the sign of a gradient of nearly 0 into a whole step unless epsilon is larger
    config = config_for(method, lr_scheduler_type="constant", weight_decay=0.0, epsilon=1e-3)
    packed = our_steps(base, config, examples, PackLimits())
    matmul_choice.MatmulChoice().apply()
    assert_same(packed, plain_steps(base, config, examples))


@pytest.mark.parametrize("method", ["LoRA", "DoRA", "QLoRA"])
def test_packs_in_threads_of_their_own_match_single_documents(
    method: str, base: BaseWeights, examples: list[Example]
) -> None:
    config = config_for(
        method,
        batch_size=6,
        gradient_accumulation_steps=2,
        epochs=2,
        lr_scheduler_type="constant",
        weight_decay=0.0,
    )
    limits = PackLimits(threads=2)
    (step, _) = training_batches(examples, config, limits=limits)
    assert [len(packs) for packs in step.packs] == [2, 2]
    threaded = our_steps(base, config, examples, limits)
    assert_same(threaded, plain_steps(base, config, examples))
    for (_, gradients), (_, again) in zip(
        threaded, our_steps(base, config, examples, limits), strict=True
    ):
        assert all(torch.equal(gradients[name], again[name]) for name in gradients)


@pytest.mark.parametrize("method", ["LoRA", "DoRA"])
def test_gradient_accumulation_matches_single_documents(
    method: str, base: BaseWeights, examples: list[Example]
) -> None:
    config = config_for(
        method,
        batch_size=2,
        gradient_accumulation_steps=3,
        lr_scheduler_type="constant",
        weight_decay=0.0,
    )
    assert_same(
        our_steps(base, config, examples, PackLimits()), plain_steps(base, config, examples)
    )


def test_small_packs_match_single_documents(base: BaseWeights, examples: list[Example]) -> None:
    config = config_for("LoRA", batch_size=6, lr_scheduler_type="constant", weight_decay=0.0)
    packed = our_steps(base, config, examples, PackLimits(max_tokens=150))
    assert_same(packed, plain_steps(base, config, examples))


def test_gradient_checkpointing_gives_the_same_result(
    base: BaseWeights, examples: list[Example]
) -> None:
    config = config_for(
        "LoRA", gradient_checkpointing=True, lr_scheduler_type="constant", weight_decay=0.0
    )
    assert_same(
        our_steps(base, config, examples, PackLimits()), plain_steps(base, config, examples)
    )
