"""What a run leaves behind: an adapter that plain PEFT loads, or a whole model; whole or not at all.

The weights come from the same numbers as the same bytes: PEFT writes its config from a set, so the
config is written here, sorted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from safetensors.torch import load_file, save_file  # noqa: TID253 - see above
from torch import nn  # noqa: TID253 - see above

from maas_client.local.state import atomic_folder

WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "training.json"
_NOTICES = ("LICENSE*", "NOTICE*", "LICENCE*")


def save_adapter(
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    folder: Path,
    base: Mapping[str, Any],
    training_card: Mapping[str, Any],
) -> Path:
    """Write the adapter into ``folder``, with the base's licence and what it was trained on.

    ``weights`` are those of the learner around ``model`` that are trained, whole.
    """

    def fill(draft: Path) -> None:
        save_file(adapter_state_dict(model, weights), draft / WEIGHTS, metadata={"format": "pt"})
        (draft / CONFIG).write_text(_json(_config(model, base)))
        _beside(draft, base, training_card)

    return atomic_folder.write_folder(folder, fill)


def save_model(
    model: nn.Module,
    tokenizer: Any,
    end_of_turn: str,
    folder: Path,
    base: Mapping[str, Any],
    training_card: Mapping[str, Any],
) -> Path:
    """Write a whole model (method Full, or a merged one) with its tokenizer.

    Its generation settings end at ``end_of_turn``: without that a tuned Phi never stops.
    """

    def fill(draft: Path) -> None:
        anything: Any = model
        anything.config._attn_implementation = None  # ours is not known to others
        settings = anything.generation_config
        settings.eos_token_id = _ends(settings.eos_token_id, tokenizer, end_of_turn)
        anything.save_pretrained(draft, safe_serialization=True)
        tokenizer.save_pretrained(draft)
        _beside(draft, base, training_card)

    return atomic_folder.write_folder(folder, fill)


def _ends(known: int | list[int] | None, tokenizer: Any, end_of_turn: str) -> list[int]:
    ends = known if isinstance(known, list) else [] if known is None else [known]
    return sorted({*ends, tokenizer.convert_tokens_to_ids(end_of_turn)})


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Put a saved adapter's weights back into the model."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, load_file(folder / WEIGHTS))


def save_best_weights(weights: Mapping[str, torch.Tensor], folder: Path, step: int) -> None:
    """Write down a whole model's trained weights as the best of a run, in place of those before."""

    def fill(draft: Path) -> None:
        # A clone of each, for weights that share a memory: a file has none.
        named = {name: weights[name].cpu().contiguous().clone() for name in sorted(weights)}
        save_file(named, draft / WEIGHTS)

    kept = atomic_folder.write_folder(folder / f"step-{step:08d}", fill)
    for old in folder.glob("step-*"):
        if old != kept:
            remove_folder(old)


def load_best_weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Return what ``keep_best`` wrote at ``step``."""
    return load_file(folder / f"step-{step:08d}" / WEIGHTS)


def remove_folder(folder: Path) -> None:
    """Drop an adapter that is no longer kept."""
    shutil.rmtree(folder, ignore_errors=True)


def adapter_state_dict(
    model: nn.Module, weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the adapter's weights under PEFT's names, on the CPU."""
    from peft import get_peft_model_state_dict

    own = {name.removeprefix("model."): value for name, value in weights.items()}
    state = get_peft_model_state_dict(model, state_dict=own)
    return {name: state[name].detach().cpu().contiguous() for name in sorted(state)}


def _config(model: Any, base: Mapping[str, Any]) -> dict[str, Any]:
    config = model.peft_config[model.active_adapter].to_dict()
    config["base_model_name_or_path"] = base["name"]
    config["inference_mode"] = True
    return {name: _plain(value) for name, value in config.items()}


def _plain(value: Any) -> Any:
    """Return a JSON-ready value whose order is always the same."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _beside(draft: Path, base: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    told = {name: value for name, value in base.items() if name != "folder"}
    (draft / CARD).write_text(_json({"base": _plain(told), **_plain(card)}))
    for pattern in _NOTICES:
        for path in Path(base["folder"]).glob(pattern):
            (draft / path.name).write_bytes(path.read_bytes())
