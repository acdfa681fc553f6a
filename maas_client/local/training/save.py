"""Save the result of a run atomically: an adapter that plain PEFT loads, or a whole model.

Equal weights give equal bytes. PEFT writes its config from an unordered set, so the config is written here,
sorted.
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
_NOTICE_PATTERNS = ("LICENSE*", "NOTICE*", "LICENCE*")


def save_adapter(
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    folder: Path,
    base: Mapping[str, Any],
    training_metadata: Mapping[str, Any],
) -> Path:
    """Write the adapter into ``folder``, with the base's licence and the training card.

    ``weights`` are the trained weights of the ``ModelWithLoss`` around ``model``, unsharded.
    """

    def fill(draft: Path) -> None:
        save_file(adapter_state_dict(model, weights), draft / WEIGHTS, metadata={"format": "pt"})
        (draft / CONFIG).write_text(_json(_config(model, base)))
        _write_card_and_notices(draft, base, training_metadata)

    return atomic_folder.write_folder(folder, fill)


def save_model(
    model: nn.Module,
    tokenizer: Any,
    end_of_turn: str,
    folder: Path,
    base: Mapping[str, Any],
    training_metadata: Mapping[str, Any],
) -> Path:
    """Write a whole model (method Full, or merged) with its tokenizer.

    ``end_of_turn`` is added to the end tokens of its generation config: without it a tuned Phi never stops.
    """

    def fill(draft: Path) -> None:
        causal_model: Any = model
        causal_model.config._attn_implementation = None  # other programs do not know our attention
        generation_config = causal_model.generation_config
        generation_config.eos_token_id = _end_token_ids(
            generation_config.eos_token_id, tokenizer, end_of_turn
        )
        causal_model.save_pretrained(draft, safe_serialization=True)
        tokenizer.save_pretrained(draft)
        _write_card_and_notices(draft, base, training_metadata)

    return atomic_folder.write_folder(folder, fill)


def _end_token_ids(current: int | list[int] | None, tokenizer: Any, end_of_turn: str) -> list[int]:
    end_ids = current if isinstance(current, list) else [] if current is None else [current]
    return sorted({*end_ids, tokenizer.convert_tokens_to_ids(end_of_turn)})


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Load the weights of a saved adapter into the model."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, load_file(folder / WEIGHTS))


def save_best_weights(weights: Mapping[str, torch.Tensor], folder: Path, step: int) -> None:
    """Save a whole model's trained weights as the best of a run, replacing earlier ones."""

    def fill(draft: Path) -> None:
        # Clone each: safetensors refuses tensors that share memory.
        tensors = {name: weights[name].cpu().contiguous().clone() for name in sorted(weights)}
        save_file(tensors, draft / WEIGHTS)

    new_folder = atomic_folder.write_folder(folder / f"step-{step:08d}", fill)
    for old_folder in folder.glob("step-*"):
        if old_folder != new_folder:
            remove_folder(old_folder)


def load_best_weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Return the weights that ``save_best_weights`` wrote at ``step``."""
    return load_file(folder / f"step-{step:08d}" / WEIGHTS)


def remove_folder(folder: Path) -> None:
    """Delete the folder of an adapter."""
    shutil.rmtree(folder, ignore_errors=True)


def adapter_state_dict(
    model: nn.Module, weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the adapter's weights under PEFT's names, on the CPU."""
    from peft import get_peft_model_state_dict

    peft_names = {name.removeprefix("model."): value for name, value in weights.items()}
    state = get_peft_model_state_dict(model, state_dict=peft_names)
    return {name: state[name].detach().cpu().contiguous() for name in sorted(state)}


def _config(model: Any, base: Mapping[str, Any]) -> dict[str, Any]:
    config = model.peft_config[model.active_adapter].to_dict()
    config["base_model_name_or_path"] = base["name"]
    config["inference_mode"] = True
    return {name: _to_json_ready(value) for name, value in config.items()}


def _to_json_ready(value: Any) -> Any:
    """Return a JSON-ready value in a deterministic order."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(name): _to_json_ready(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json_ready(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _write_card_and_notices(draft: Path, base: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    public_base = {name: value for name, value in base.items() if name != "folder"}
    (draft / CARD).write_text(_json({"base": _to_json_ready(public_base), **_to_json_ready(card)}))
    for pattern in _NOTICE_PATTERNS:
        for path in Path(base["folder"]).glob(pattern):
            (draft / path.name).write_bytes(path.read_bytes())
