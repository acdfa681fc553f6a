"""A base in memory, its tokenizer and template, and the adapters that are held over it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded

from maas_client.chat import TEMPLATES, ChatTemplate, render_prompt
from maas_client.errors import MaasError
from maas_client.local.generate import adapter, weights
from maas_client.local.generate.adapter_linear import AdapterRows
from maas_client.local.generate.cache import KeyValueCache
from maas_client.local.generate.protocol import BaseWeights, GenerationError, GenerationRequest
from maas_client.local.generate.text_stream import TextStream
from maas_client.local.machine.hardware import detect_hardware


class InferenceModel:
    """Loads on construction; raises ``GenerationError`` for a folder that cannot be answered from."""

    def __init__(self, base: BaseWeights) -> None:
        folder = Path(base.folder)
        if base.template not in TEMPLATES:
            raise GenerationError(
                "invalid_request", f"no chat template is called {base.template!r}"
            )
        self.template: ChatTemplate = TEMPLATES[base.template]
        self._config = weights.load_config(folder)
        self._device = base.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.memory_bytes = detect_hardware().memory_bytes
        dtype = _dtype(base, self._config, self._device, self.memory_bytes)
        self._rows = AdapterRows()
        weights.import_architectures()
        self._net, self._linears = weights.build_network(
            folder, self._config, self._rows, dtype, self._device
        )
        self._like = torch.empty(0, dtype=dtype, device=self._device)
        self.tokenizer = ChatTokenizer(folder, self.template)
        self._window: int | None = getattr(self._config, "sliding_window", None)
        self.context_length: int = self._config.max_position_embeddings
        self._adapters: dict[str, dict[str, adapter.LoraDelta]] = {}
        self.merged_adapter: str | None = None

    @property
    def longrope_threshold(self) -> int | None:
        """Above this many tokens another position encoding holds (LongRoPE): what is cached
        before is of no use after. None where there is only one."""
        rope = self._config.rope_parameters or {}
        if rope.get("rope_type") != "longrope":
            return None
        return int(rope["original_max_position_embeddings"])

    @property
    def cache_bytes_per_token(self) -> int:
        """Return what one token of one row takes in the cache."""
        config = self._config
        width = getattr(config, "head_dim", None)
        width = width or config.hidden_size // config.num_attention_heads
        heads = config.num_hidden_layers * config.num_key_value_heads
        return int(2 * heads * width * self._like.element_size())

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters held, by folder."""
        return tuple(self._adapters)

    def load_adapter(self, folder: str) -> None:
        """Read an adapter and hold it; it costs nothing if it is held already."""
        if folder in self._adapters:
            return
        changes = adapter.load_adapter(folder)
        for name, change in changes.items():
            layer = self._linears.get(name)
            if layer is None or not layer.fits(change):
                raise GenerationError(
                    "model_unusable",
                    f"the adapter in {Path(folder).name} is for another base: this one has "
                    f"{'no layer' if layer is None else 'another shape of'} {name}",
                )
        self._adapters[folder] = changes

    def unload_adapter(self, folder: str) -> None:
        """Forget an adapter."""
        if self.merged_adapter == folder:
            self.set_merged_adapter(None)
        self._adapters.pop(folder, None)
        for layer in self._linears.values():
            layer.remove_adapter(folder)

    def set_merged_adapter(self, merged_folder: str | None) -> None:
        """Merge ``alone`` into the weights, where it costs nothing per token; None: merge none,
        and hold every adapter beside the base's own weights."""
        before = self._adapters.get(self.merged_adapter or "", {})
        after = self._adapters.get(merged_folder or "", {})
        for name, layer in self._linears.items():
            if not layer.is_loaded or (
                self.merged_adapter != merged_folder and (name in before or name in after)
            ):
                layer.load_weight(after.get(name))
        self.merged_adapter = merged_folder
        for folder, changes in self._adapters.items():
            for name, change in changes.items():
                if folder == merged_folder:
                    self._linears[name].remove_adapter(folder)
                else:
                    self._linears[name].add_adapter(folder, change)

    @torch.inference_mode()
    def forward(
        self,
        tokens: Sequence[Sequence[int]],
        positions: Sequence[Sequence[int]],
        cache: KeyValueCache,
        adapters: Sequence[str | None],
    ) -> torch.Tensor:
        """Read ``tokens`` (rows, columns) at ``positions`` and return the scores (rows,
        vocabulary) of what follows the last column. ``adapters`` names each row's."""
        columns = len(tokens[0])
        self._rows.groups = self._groups(adapters)
        hidden = self._net.model(
            input_ids=torch.tensor(tokens, device=self._device),
            position_ids=torch.tensor(positions, device=self._device),
            attention_mask=cache.attention_mask(columns, self._window, self._like),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        cache.advance(columns)
        scores: torch.Tensor = self._net.lm_head(hidden[:, -1:])[:, 0]
        return scores

    def _groups(self, adapters: Sequence[str | None]) -> list[tuple[str, torch.Tensor | None]]:
        found: dict[str, list[int]] = {}
        for row, name in enumerate(adapters):
            if name is not None and name != self.merged_adapter:
                found.setdefault(name, []).append(row)
        every = len(adapters)
        return [
            (name, None if len(rows) == every else torch.tensor(rows, device=self._device))
            for name, rows in found.items()
        ]


class ChatTokenizer:
    """Text to tokens and back, and where an answer ends."""

    def __init__(self, folder: Path, template: ChatTemplate) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise weights.unusable_base(folder, f"tokenizer.json cannot be read: {error}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._template = template
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {number for number, token in added.items() if token.special}
        self._tool_marks = set(self._numbers(_tool_marks(template)))
        self._stop_texts = [text for text in template.stop_strings if not self._numbers([text])]
        self.end_token_ids = frozenset(
            {*self._numbers(template.stop_strings), *_generation_ends(folder)}
        )

    def _numbers(self, texts: Iterable[str]) -> list[int]:
        found = (self._tokenizer.token_to_id(text) for text in texts)
        return [number for number in found if number is not None]

    def encode_prompt(self, chat: GenerationRequest) -> list[int]:
        """Return the tokens of a conversation up to where its answer begins. Raises ``GenerationError``."""
        try:
            text = render_prompt(chat.messages, chat.tools, self._template)
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        except MaasError as error:
            raise GenerationError("invalid_request", str(error)) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise GenerationError("invalid_request", "'messages' are not chat messages") from None
        return ids

    def new_stream(self, chat: GenerationRequest) -> TextStream:
        """Return the empty answer to a conversation."""
        shown = self._tool_marks if chat.tools else set()
        hidden = self._special - shown

        def decode(tokens: list[int]) -> str:
            seen = [token for token in tokens if token not in hidden]
            text: str = self._tokenizer.decode(seen, skip_special_tokens=False)
            return text

        hold = [*_tool_marks(self._template)[:1], "functools["] if chat.tools else []
        return TextStream(decode, (*chat.params.stop, *self._stop_texts), hold)


def _tool_marks(template: ChatTemplate) -> list[str]:
    if template.tools is None:
        return []
    return [template.tools.call_before, template.tools.call_after]


def _generation_ends(folder: Path) -> list[int]:
    try:
        said: Any = json.loads((folder / "generation_config.json").read_bytes()).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return []
    ends = said if isinstance(said, list) else [said]
    return [end for end in ends if isinstance(end, int)]


def _dtype(base: BaseWeights, config: Any, device: str, memory_bytes: int) -> torch.dtype:
    """Return the format asked for; else float32 on a CPU that has the room, the file's own elsewhere."""
    own = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    if base.dtype is None:
        held = sum(path.stat().st_size for path in Path(base.folder).glob("*.safetensors"))
        fits = held * 4 // own.itemsize < memory_bytes * 2 // 3
        return torch.float32 if device == "cpu" and fits else own
    named = getattr(torch, base.dtype, None)
    if not isinstance(named, torch.dtype) or not named.is_floating_point:
        raise GenerationError("invalid_request", f"no number format is called {base.dtype!r}")
    return named
