"""What is trained: adapters over named linear layers, or everything; and proof of what they cover.

PEFT takes a list of names and says nothing of one that matches no layer. Phi fuses query, key and
value into one ``qkv_proj``, so the usual list of names would silently train a third of what it says.
Here every name must match, and the job says which layers are covered and which are not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.errors import ConfigError
from maas_client.local.resources.training_config import TrainingConfig

_FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which linear layers of the blocks are trained."""

    covered: dict[str, int]
    """How many layers of each name."""
    left_out: dict[str, int]
    trainable: int
    """Numbers that are trained."""
    total: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report, JSON-ready."""
        return asdict(self)

    def describe(self) -> str:
        """Return the report for people."""
        layers = ", ".join(f"{count} × {name}" for name, count in self.covered.items())
        share = 100 * self.trainable / max(1, self.total)
        rest = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"{self.trainable:,} of {self.total:,} numbers ({share:.2f} %) in {layers}{rest}"


def make_trainable(model: nn.Module, config: TrainingConfig) -> tuple[nn.Module, Coverage]:
    """Return the model with what the recipe trains, and what that covers.

    The adapter's first values follow from the seed. Raises ``ConfigError`` for names that match no
    layer, or only some of what they name.
    """
    layers = linear_layers(model)
    if config.method == "Full":
        if config.targets:
            raise ConfigError(
                "target_modules has no meaning for method Full", hint="Leave it out, or use LoRA."
            )
        return model.requires_grad_(True), _coverage(model, layers, layers)
    chosen = select_layers(layers, config.targets, model)
    torch.manual_seed(config.seed)
    adapted = _adapted(model, config, sorted({name.rsplit(".", 1)[-1] for name in chosen}), chosen)
    got = [name for name in chosen if _has_adapter(model, name)]
    if missing := sorted(set(chosen) - set(got)):
        raise ConfigError(f"no adapter was put on {missing[0]} ({len(missing)} layers in all)")
    return adapted, _coverage(adapted, layers, got)


def linear_layers(model: nn.Module) -> list[str]:
    """Return the full names of every linear layer inside the model's blocks."""
    blocks = _blocks(model)
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and any(name.startswith(f"{b}.") for b in blocks):
            found.append(name)
    return found


def _blocks(model: nn.Module) -> list[str]:
    """Return the names of the repeated blocks: the longest ModuleList that holds linear layers."""
    lists = [
        (len(module), name)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and any(isinstance(inner, nn.Linear) for inner in module.modules())
    ]
    return [max(lists)[1]] if lists else []


def select_layers(
    layers: list[str], targets: tuple[str, ...] | None, model: nn.Module
) -> list[str]:
    """Return the layers that ``targets`` name; all of them for None."""
    if targets is None:
        return layers
    named = {target: [one for one in layers if _is(one, target)] for target in targets}
    missing = [target for target, found in named.items() if not found]
    if missing:
        raise _no_match(missing, layers, model)
    return [one for one in layers if any(_is(one, target) for target in targets)]


def _is(layer: str, target: str) -> bool:
    return layer == target or layer.endswith(f".{target}")


def _no_match(missing: list[str], layers: list[str], model: nn.Module) -> ConfigError:
    names = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
    said = f"target_modules names {', '.join(missing)}, which this model does not have"
    for fused, parts in _FUSED.items():
        if fused in names and set(missing) & set(parts):
            said += f"; its {', '.join(parts)} are one layer, {fused}"
    others = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    if set(missing) & others:
        said += " as linear layers of its blocks"
    return ConfigError(said, hint=f"Its linear layers are {', '.join(names)}.")


def _adapted(
    model: nn.Module, recipe: TrainingConfig, names: list[str], chosen: list[str]
) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    from maas_client.local.training.lora_linear import lora_layer_classes

    same = {one for one in linear_layers(model) if one.rsplit(".", 1)[-1] in names}
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.r,
        lora_alpha=recipe.alpha if recipe.alpha % 1 else int(recipe.alpha),
        lora_dropout=recipe.dropout,
        target_modules=names if same == set(chosen) else sorted(chosen),
        use_rslora=recipe.method == "rsLoRA",
        use_dora=recipe.method == "DoRA",
        bias="none",
    )
    # PEFT's own (experimental) way to have a layer class of ours used for a kind of layer
    config._register_custom_module(lora_layer_classes(quantized=recipe.method == "QLoRA"))
    adapted: nn.Module = get_peft_model(model, config)
    return adapted


def _has_adapter(model: nn.Module, name: str) -> bool:
    from peft.tuners.lora import LoraLayer

    return isinstance(model.get_submodule(name), LoraLayer)


def _coverage(model: nn.Module, layers: list[str], covered: list[str]) -> Coverage:
    inside = Counter(name.rsplit(".", 1)[-1] for name in covered)
    outside = Counter(name.rsplit(".", 1)[-1] for name in set(layers) - set(covered))
    return Coverage(
        covered=dict(sorted(inside.items())),
        left_out=dict(sorted(outside.items())),
        trainable=sum(w.numel() for w in model.parameters() if w.requires_grad),
        total=sum(_numel(w) for w in model.parameters()),
    )


def _numel(weight: nn.Parameter) -> int:
    """Return how many numbers a weight stands for; 4-bit weights hold two in a byte."""
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else int(torch.Size(state.shape).numel())
