"""A base from a folder: configuration checked, weights from safetensors only, no code of it run.

The network is transformers' own class for the architecture, made without memory; its linear layers
are replaced by ``AdaptedLinear`` and its attention by one that needs no copies of keys and values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded
from torch import nn  # noqa: TID253 - as above
from torch.nn import functional as f  # noqa: TID253 - as above

from maas_client.local.generate.adapter_linear import AdapterRows, MultiAdapterLinear
from maas_client.local.generate.protocol import GenerationError

ARCHITECTURES = ("llama", "mistral", "phi3", "qwen2", "qwen3")
"""Decoders with one kind of causal attention in all layers, each tested or of a tested one's make."""
_ROPES = ("default", "linear", "llama3", "longrope", "yarn")
_ATTENTION = "maas_answering"


class SafetensorsReader:
    """The tensors of a folder, read one at a time and shared with the page cache."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        index = folder / "model.safetensors.index.json"
        names = ["model.safetensors"]
        try:
            if index.exists():
                names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
            if any(Path(name).name != name for name in names):
                raise unusable_base(folder, "its index names files outside of it")
            files: list[Any] = [safe_open(folder / name, framework="pt") for name in names]
        except FileNotFoundError:
            raise unusable_base(folder, "model.safetensors is missing") from None
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise unusable_base(folder, f"its weights cannot be read: {error}") from None
        self._folder = folder
        self._files = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - no dict

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
        said = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        raise unusable_base(folder, "config.json is missing or no JSON") from None
    kind = said.get("model_type")
    if kind not in ARCHITECTURES or "auto_map" in said:
        known = ", ".join(ARCHITECTURES)
        raise unusable_base(
            folder, f"its architecture {kind!r} is none of {known}, or brings its own code"
        )
    if said.get("quantization_config"):
        raise unusable_base(folder, "its weights are quantised; give the unquantised base")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each class of configuration raises its own
        why = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise unusable_base(folder, f"transformers refuses its config.json: {why}") from None
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if len(kinds) > 1:
        raise unusable_base(folder, "its layers attend in different ways")
    if (config.rope_parameters or {}).get("rope_type", "default") not in _ROPES:
        raise unusable_base(folder, f"its position encoding is none of {', '.join(_ROPES)}")
    return config


def build_network(
    folder: Path, config: Any, rows: AdapterRows, dtype: torch.dtype, device: str
) -> tuple[Any, dict[str, MultiAdapterLinear]]:
    """Return the network, ready to answer, and its linear layers by name."""
    from transformers import AutoModelForCausalLM

    read = _Reader(folder, config, dtype, device)
    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(
            config, attn_implementation=_ATTENTION, dtype=dtype, trust_remote_code=False
        ).eval()
    linears = {}
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Linear):
            bias = None if module.bias is None else read.later(f"{name}.bias")()
            linears[name] = MultiAdapterLinear(read.later(f"{name}.weight"), bias, rows)
            _check_shape(folder, name, linears[name].shape, module.weight.shape)
            net.set_submodule(name, linears[name])
    for name, empty in list(net.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        value = read.later(name)().clone()
        _check_shape(folder, name, value.shape, empty.shape)
        setattr(net.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))
    rotary = net.model.rotary_emb
    with torch.device(device):
        net.model.rotary_emb = type(rotary)(config=config)
    return net, linears


class _Reader:
    """Weights in the format and on the device they are held in; a tied head is the embedding."""

    def __init__(self, folder: Path, config: Any, dtype: torch.dtype, device: str) -> None:
        self._weights = SafetensorsReader(folder)
        self._tied = bool(config.tie_word_embeddings)
        self._dtype, self._device = dtype, device

    def later(self, name: str) -> Callable[[], torch.Tensor]:
        """Return what reads one tensor when it is called."""
        if name == "lm_head.weight" and (self._tied or name not in self._weights):
            name = "model.embed_tokens.weight"
        return lambda: self._weights.read(name).to(device=self._device, dtype=self._dtype)


def _check_shape(folder: Path, name: str, held: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if tuple(held) != tuple(wanted):
        raise unusable_base(folder, f"{name} has the shape {tuple(held)}, not {tuple(wanted)}")


def cached_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend: query (rows, heads, columns, width), key and value (rows, shared heads, all, width).

    For a single column the heads that share a key stand where columns would, so nothing is
    repeated. Registered with transformers under a name of our own.
    """
    rows, heads, columns, width = query.shape
    shared = key.shape[1]
    if columns == 1:
        query = query.view(rows, shared, heads // shared, width)
        out = f.scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
        return out.reshape(rows, 1, heads, width), None
    out = f.scaled_dot_product_attention(
        query,
        key.repeat_interleave(heads // shared, dim=1),
        value.repeat_interleave(heads // shared, dim=1),
        attention_mask,
        is_causal=attention_mask is None,
        scale=scaling,
    )
    return out.transpose(1, 2), None


def import_architectures() -> None:
    """Import what every base needs (seconds) and make the attention above known to transformers,
    under a name that has no mask of transformers' own."""
    from transformers import AutoModelForCausalLM  # noqa: F401 - resolved lazily, and slowly
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, cached_attention)


def unusable_base(folder: Path, why: str) -> GenerationError:
    """Return the refusal of a base folder."""
    return GenerationError("model_unusable", f"the base in {folder.name} cannot be used: {why}")
