"""Fused modules give the results of transformers' modules, for every supported architecture."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from maas_client.catalog import Architecture  # noqa: E402 - after the skips
from maas_client.local.machine.memory import (  # noqa: E402
    FUSED_MODEL_TYPES,
    activation_values_per_token,
)
from maas_client.local.resources.training_config import TrainingConfig  # noqa: E402
from maas_client.local.training import adapters, attention, fused_modules  # noqa: E402
from maas_client.local.training.data import Example  # noqa: E402
from maas_client.local.training.fused_modules import fuse_modules  # noqa: E402
from maas_client.local.training.load_base import longrope_threshold  # noqa: E402
from maas_client.local.training.model_loss import ModelWithLoss  # noqa: E402
from maas_client.local.training.packing import PackLimits, group_examples, pack_examples  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 8,
    "long_factor": [3.0] * 8,
    "original_max_position_embeddings": 16,
}
MODELS = {
    "phi3": ("Phi3", {"max_position_embeddings": 256}),
    "phi3-window": ("Phi3", {"max_position_embeddings": 256, "sliding_window": 7}),
    "phi4-mini": (
        "Phi3",
        {
            "max_position_embeddings": 256,
            "tie_word_embeddings": True,
            "partial_rotary_factor": 0.75,
            "num_key_value_heads": 1,
        },
    ),
    "phi3-128k": (
        "Phi3",
        {
            "max_position_embeddings": 256,
            "original_max_position_embeddings": 16,
            "rope_parameters": LONG,
        },
    ),
    "llama": ("Llama", {"max_position_embeddings": 256}),
    "qwen2": ("Qwen2", {"max_position_embeddings": 256}),
    "mistral": ("Mistral", {"max_position_embeddings": 256, "sliding_window": 5}),
}


def models(name: str) -> tuple[Any, Any]:
    """Return two models with the same weights: transformers' own, and one with fused modules."""
    kind, options = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**(SIZES | options))
    torch.manual_seed(0)
    reference = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    fused = transformers.AutoModelForCausalLM.from_config(
        copy.deepcopy(config), attn_implementation=attention.register()
    )
    fused.load_state_dict(reference.state_dict())
    return reference, fuse_modules(fused)


def one_by_one_loss(reference: Any, examples: list[Example]) -> torch.Tensor:
    """Return the summed loss of examples by transformers' own modules, one document at a time."""
    total = torch.zeros(())
    for example in examples:
        logits = reference(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
        mask, targets = torch.tensor(example.loss_mask)[1:], torch.tensor(example.input_ids)[1:]
        total = total + torch.nn.functional.cross_entropy(
            logits[mask], targets[mask], reduction="sum"
        )
    return total


def documents() -> list[Example]:
    """Return documents of which three begin with the same 20 tokens, and two of those with the same 50."""
    draw = torch.Generator().manual_seed(1)
    ids: list[list[int]] = [
        torch.randint(3, 61, (size,), generator=draw).tolist()
        for size in (9, 4, 30, 17, 2, 60, 5, 31)
    ]
    ids[6:] = [ids[5][:50] + ids[6], ids[5][:20] + ids[7]]
    return [
        Example(tokens, [index % 3 != 1 for index in range(len(tokens))], line)
        for line, tokens in enumerate(ids)
    ]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_packed_loss_and_gradients_match_single_documents(name: str) -> None:
    reference, fused = models(name)
    examples = documents()
    learner = ModelWithLoss(fused)
    limits = PackLimits(longrope_threshold=longrope_threshold(fused))
    total = torch.zeros(())
    for group in group_examples(examples, limits):
        loss, _ = learner(*pack_examples(group))
        total = total + loss
    total.backward()
    single = one_by_one_loss(reference, examples)
    single.backward()
    assert total.item() == pytest.approx(single.item(), rel=1e-5)
    grads = {n: w.grad for n, w in reference.named_parameters()}
    assert set(grads) == {n for n, _ in fused.named_parameters()}
    for weight_name, weight in fused.named_parameters():
        largest = float(grads[weight_name].abs().max())
        assert float((weight.grad - grads[weight_name]).abs().max()) < 1e-4 * max(1.0, largest), (
            weight_name
        )


@pytest.mark.parametrize("name", ["phi3", "llama", "phi3-window"])
def test_generation_matches_transformers(name: str) -> None:
    reference, fused = models(name)
    ids = torch.tensor([[5, 9, 11, 40, 7, 8, 23, 31, 12]])
    mask = torch.ones_like(ids)
    expected = reference.eval().generate(
        ids, attention_mask=mask, max_new_tokens=6, do_sample=False
    )
    with attention.standard_attention(fused):
        actual = fused.eval().generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False)
    assert actual.tolist() == expected.tolist()
    loss, _ = ModelWithLoss(fused)(*pack_examples(documents()))
    assert loss.isfinite()


def test_bfloat16_uses_the_original_forward() -> None:
    reference, fused = models("llama")
    reference, fused = reference.bfloat16(), fused.bfloat16()
    (example, *_) = documents()
    loss, _ = ModelWithLoss(fused)(*pack_examples([example]))
    logits = reference(input_ids=torch.tensor([example.input_ids])).logits[0, :-1].float()
    mask, targets = torch.tensor(example.loss_mask)[1:], torch.tensor(example.input_ids)[1:]
    expected = torch.nn.functional.cross_entropy(logits[mask], targets[mask], reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=2e-2)


def test_logits_are_computed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_client.local.training import model_loss

    monkeypatch.setattr(model_loss, "_CHUNK_LOGITS", 61 * 20)
    reference, fused = models("llama")
    seen: list[int] = []
    linear = model_loss.linear

    def spy(x: Any, weight: Any) -> Any:
        out = linear(x, weight)
        assert out.shape[-1] == 61
        seen.append(out.numel())
        return out

    monkeypatch.setattr(model_loss, "linear", spy)
    examples = documents()
    loss, correct = ModelWithLoss(fused)(*pack_examples(examples))
    monkeypatch.undo()
    assert 0 < max(seen) <= 61 * 20
    assert max(seen) - min(seen) <= 61, "few rows multiply slowly, so no chunk is much smaller"
    single, right = 0.0, 0
    for example in examples:
        with torch.no_grad():
            logits = reference(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
        mask, targets = torch.tensor(example.loss_mask)[1:], torch.tensor(example.input_ids)[1:]
        single += float(
            torch.nn.functional.cross_entropy(logits[mask], targets[mask], reduction="sum")
        )
        right += int((logits[mask].argmax(-1) == targets[mask]).sum())
    assert loss.item() == pytest.approx(single, rel=1e-5)
    assert int(correct) == right


@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_activation_of_the_mlp_is_not_stored(name: str) -> None:
    _, fused = models(name)
    stored: set[int] = set()

    def keep(tensor: Any) -> Any:
        if tensor.shape[:2] == (1, 5) and tensor.shape[-1] == SIZES["intermediate_size"]:
            stored.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        fused.model.layers[0].mlp(torch.randn(1, 5, SIZES["hidden_size"]))
    assert len(stored) == 3, "gate, up, and their product"


def test_memory_estimates_know_the_fused_models() -> None:
    fused = {name: models(name)[1] for name in MODELS}
    fused_types = {
        model.config.model_type
        for model in fused.values()
        if type(model.model.layers[0].mlp).__name__.startswith("Fused")
    }
    assert fused_types == set(FUSED_MODEL_TYPES)


@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "LoRA") for name in sorted(MODELS)), ("llama", "DoRA"), ("phi4-mini", "DoRA")],
)
def test_blocks_with_adapters_match_single_documents(
    name: str, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, fused = adapted(name, method)
    rows: list[int] = []
    after = fused_modules.after_attention

    def spy(attended: Any, *args: Any) -> Any:
        rows.append(len(attended))
        return after(attended, *args)

    monkeypatch.setattr(fused_modules, "after_attention", spy)
    examples = documents()
    total = torch.zeros(())
    for group in group_examples(examples, PackLimits(longrope_threshold=longrope_threshold(fused))):
        pack = pack_examples(group)
        loss, _ = ModelWithLoss(fused)(*pack)
        total = total + loss
        if name != "qwen2":
            assert rows[-2:] == [len(pack.input_ids), len(pack.targets)]
    assert bool(rows) == (name != "qwen2")
    total.backward()
    single = one_by_one_loss(reference, examples)
    single.backward()
    assert total.item() == pytest.approx(single.item(), rel=1e-5)
    grads = {n: w.grad for n, w in reference.named_parameters() if w.requires_grad}
    assert grads
    for weight_name, weight in fused.named_parameters():
        assert weight.requires_grad == (weight_name in grads)
        if weight.requires_grad:
            difference = float((weight.grad - grads[weight_name]).abs().max())
            assert difference < 1e-4 * max(1.0, float(grads[weight_name].abs().max())), weight_name


def adapted(name: str, method: Any) -> tuple[Any, Any]:
    """Return PEFT's model and ours, whose adapters have the same random weights."""
    reference, fused = models(name)
    config = TrainingConfig(method=method, lora_r=4, lora_alpha=8)
    fused.requires_grad_(False)
    fused, _ = adapters.make_trainable(fused, config)
    layers = sorted({layer.rsplit(".", 1)[-1] for layer in adapters.linear_layers(reference)})
    reference = peft.get_peft_model(
        reference,
        peft.LoraConfig(
            r=4, lora_alpha=8, target_modules=layers, use_dora=method == "DoRA",
            task_type="CAUSAL_LM",
        ),
    )  # fmt: skip
    torch.manual_seed(2)
    weights = {
        weight_name: weight.detach() + 0.05 * torch.randn_like(weight)
        for weight_name, weight in reference.named_parameters()
        if weight.requires_grad
    }
    for model in (reference, fused):
        assert not model.load_state_dict(weights, strict=False).unexpected_keys
    return reference, fused


@pytest.mark.parametrize(
    ("change", "is_fused"),
    [
        ({}, True),
        ({"target_modules": ("q_proj", "down_proj")}, False),
        ({"lora_dropout": 0.5}, False),
    ],
)
def test_blocks_without_an_adapter_on_each_layer_call_their_modules(
    change: dict[str, Any], is_fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fused = models("llama")
    fused.requires_grad_(False)
    fused, _ = adapters.make_trainable(fused, TrainingConfig(**change))
    used: list[int] = []
    after = fused_modules.after_attention
    monkeypatch.setattr(fused_modules, "after_attention", lambda *a: used.append(1) or after(*a))
    pack = pack_examples(documents())
    loss, _ = ModelWithLoss(fused.train())(*pack)
    assert bool(used) == is_fused
    with fused.disable_adapter():
        used.clear()
        ModelWithLoss(fused)(*pack)
        assert not used
    hook = fused.base_model.model.model.layers[0].mlp.up_proj.register_forward_hook(
        lambda *_: used.append(2)
    )
    ModelWithLoss(fused)(*pack)
    hook.remove()
    assert 2 in used, "hooks of a layer are called"
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("LoRA", {}),
        ("DoRA", {}),
        ("Full", {}),
        ("LoRA", {"target_modules": ("o_proj", "down_proj")}),
        ("LoRA", {"lora_dropout": 0.5}),
    ],
)
@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_a_block_stores_what_the_memory_estimate_counts(
    name: str, method: Any, change: dict[str, Any]
) -> None:
    _, fused = models(name)
    config, tokens = fused.config, 200
    fused.requires_grad_(False)
    fused, _ = adapters.make_trainable(fused, TrainingConfig(method=method, lora_r=1, **change))
    fused.train()
    stored: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        if tokens in tensor.shape:
            stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    (example,) = [Example([3 + i % 50 for i in range(tokens)], [True] * tokens, 1)]
    blocks = []
    for count in (1, 2):
        shorter = fused if method == "Full" else fused.base_model.model
        shorter.model.config.num_hidden_layers = count
        stored.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ModelWithLoss(fused)(*pack_examples([example]))
        blocks.append(sum(stored.values()))
    estimate = activation_values_per_token(
        Architecture(
            model_type=config.model_type, hidden_size=64, layers=2, heads=4, kv_heads=2, head_dim=16,
            intermediate_size=96, vocab_size=61, tied_embeddings=False,
        ),
        method,
        fuses_blocks="target_modules" not in change,
        has_dropout="lora_dropout" in change,
    )  # fmt: skip
    per_token = (blocks[1] - blocks[0]) / tokens
    assert per_token == pytest.approx(estimate, rel=0.1)
