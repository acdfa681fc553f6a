"""Load a base from a folder: checks its configuration, reads safetensors only, runs none of its code.

The network is transformers' class for the architecture, created on the meta device. Its linear layers are
replaced by ``MultiAdapterLinear``, and its attention by one that does not copy keys and values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - runs in the answering process, which loads torch
from torch import nn  # noqa: TID253 - as above
from torch.nn import functional as f  # noqa: TID253 - as above

from maas_client.local.generate.adapter_linear import AdapterRows, MultiAdapterLinear
from maas_client.local.generate.protocol import GenerationError

ARCHITECTURES = ("llama", "mistral", "phi3", "qwen2", "qwen3")
"""Decoders with the same causal attention in all layers, tested or built like a tested one."""
_ROPE_TYPES = ("default", "linear", "llama3", "longrope", "yarn")
_ATTENTION_NAME = "maas_answering"
_MAX_SIZES = {
    "num_hidden_layers": 512,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "vocab_size": 1 << 22,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "head_dim": 1 << 14,
    "max_position_embeddings": 1 << 28,
}
"""Bounds far above any released model: building a network of the sizes in a hostile file takes minutes."""


class SafetensorsReader:
    """The tensors of a folder, memory-mapped and read one at a time."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        index = folder / "model.safetensors.index.json"
        names = ["model.safetensors"]
        try:
            if index.exists():
                names = sorted(
                    {str(x) for x in json.loads(index.read_bytes())["weight_map"].values()}
                )
            if any(Path(name).name != name for name in names):
                raise unusable_base(folder, "its index names files outside the folder")
            files: list[Any] = [safe_open(folder / name, framework="pt") for name in names]
        except FileNotFoundError:
            raise unusable_base(folder, "model.safetensors is missing") from None
        except (
            OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError,
        ) as error:  # fmt: skip
            raise unusable_base(folder, f"its weights cannot be read: {error}") from None
        self._folder = folder
        self._files = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - not a dict

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor. Raises ``GenerationError`` if there is none of that name."""
        if name not in self._files:
            raise unusable_base(self._folder, f"it has no weights for {name}")
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor


def load_config(folder: Path) -> Any:
    """Return the folder's transformers configuration. Raises ``GenerationError``."""
    from transformers import AutoConfig

    try:
        config_json = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        raise unusable_base(folder, "config.json is missing or is not valid JSON") from None
    if not isinstance(config_json, dict):
        raise unusable_base(folder, "config.json is not a JSON object")
    for name, maximum in _MAX_SIZES.items():
        value = config_json.get(name)
        if value is not None and not (type(value) is int and 0 < value <= maximum):
            raise unusable_base(folder, f"{name} is not a whole number from 1 to {maximum}")
    model_type = config_json.get("model_type")
    if model_type not in ARCHITECTURES or "auto_map" in config_json:
        supported = ", ".join(ARCHITECTURES)
        raise unusable_base(
            folder,
            f"its architecture {model_type!r} is not one of {supported}, or needs its own code",
        )
    if config_json.get("quantization_config"):
        raise unusable_base(folder, "its weights are quantised. Use the unquantised base")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each configuration class raises its own exceptions
        reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise unusable_base(folder, f"transformers rejects its config.json: {reason}") from None
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if len(layer_types) > 1:
        raise unusable_base(folder, "its layers use different kinds of attention")
    if (config.rope_parameters or {}).get("rope_type", "default") not in _ROPE_TYPES:
        raise unusable_base(folder, f"its position encoding is not one of {', '.join(_ROPE_TYPES)}")
    return config


def build_network(
    folder: Path, config: Any, rows: AdapterRows, dtype: torch.dtype, device: str
) -> tuple[Any, dict[str, MultiAdapterLinear]]:
    """Return the network, ready for inference, and its linear layers by name."""
    from transformers import AutoModelForCausalLM

    reader = _WeightReader(folder, config, dtype, device)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(
            config, attn_implementation=_ATTENTION_NAME, dtype=dtype, trust_remote_code=False
        ).eval()
    linear_layers = {}
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Linear):
            bias = None if module.bias is None else reader.lazy_read(f"{name}.bias")()
            linear_layers[name] = MultiAdapterLinear(reader.lazy_read(f"{name}.weight"), bias, rows)
            _check_shape(folder, name, linear_layers[name].shape, module.weight.shape)
            network.set_submodule(name, linear_layers[name])
    for name, parameter in list(network.named_parameters()):
        parent, _, leaf = name.rpartition(".")
        value = reader.lazy_read(name)().clone()
        _check_shape(folder, name, value.shape, parameter.shape)
        setattr(network.get_submodule(parent), leaf, nn.Parameter(value, requires_grad=False))
    rotary = network.model.rotary_emb
    with torch.device(device):
        network.model.rotary_emb = type(rotary)(config=config)
    return network, linear_layers


class _WeightReader:
    """Reads weights with a dtype and device. A tied output layer reads the embedding."""

    def __init__(self, folder: Path, config: Any, dtype: torch.dtype, device: str) -> None:
        self._weights = SafetensorsReader(folder)
        self._tied = bool(config.tie_word_embeddings)
        self._dtype, self._device = dtype, device

    def lazy_read(self, name: str) -> Callable[[], torch.Tensor]:
        """Return a function that reads one tensor."""
        if name == "lm_head.weight" and (self._tied or name not in self._weights):
            name = "model.embed_tokens.weight"
        return lambda: self._weights.read(name).to(device=self._device, dtype=self._dtype)


def _check_shape(
    folder: Path, name: str, actual: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    if tuple(actual) != tuple(expected):
        raise unusable_base(
            folder, f"{name} has the shape {tuple(actual)} instead of {tuple(expected)}"
        )


def cached_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention: query (rows, heads, columns, width), key and value (rows, KV heads, all, width).

    For a single column, the heads that share a key take the place of columns, so keys are not repeated.
    """
    rows, heads, columns, width = query.shape
    kv_heads = key.shape[1]
    if columns == 1:
        query = query.view(rows, kv_heads, heads // kv_heads, width)
        output = f.scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
        return output.reshape(rows, 1, heads, width), None
    output = f.scaled_dot_product_attention(
        query,
        key.repeat_interleave(heads // kv_heads, dim=1),
        value.repeat_interleave(heads // kv_heads, dim=1),
        attention_mask,
        is_causal=attention_mask is None,
        scale=scaling,
    )
    return output.transpose(1, 2), None


def import_architectures() -> None:
    """Import what every base needs (takes seconds) and register ``cached_attention`` with transformers, under
    a name for which transformers creates no mask."""
    from transformers import AutoModelForCausalLM  # noqa: F401 - a slow lazy import
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_ATTENTION_NAME, cached_attention)


def unusable_base(folder: Path, reason: str) -> GenerationError:
    """Return the error for a base folder that cannot be used."""
    return GenerationError("model_unusable", f"The base in {folder.name} cannot be used: {reason}.")
