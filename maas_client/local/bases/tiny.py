"""The base ``tiny``: Phi-3's architecture with half a million random weights.

It is written on first use, without torch, and has the same bytes on every machine: the weights come from
``random.Random(0)``, because torch's generator gives other bits on other CPUs. Its tokenizer encodes bytes and
has the control tokens of every chat template, so it renders like the model it replaces. It runs a complete job
in seconds but learns nothing useful.
"""

from __future__ import annotations

import json
import random
import struct
from math import prod, sqrt
from pathlib import Path
from typing import Any

from maas_client.chat.templates import TEMPLATES

REVISION = 1
"""Incremented whenever a byte of the result changes."""
VOCAB_SIZE = 384
HIDDEN_SIZE, INTERMEDIATE_SIZE, NUM_LAYERS, NUM_HEADS, NUM_KV_HEADS, CONTEXT_LENGTH = (
    128,
    384,
    2,
    4,
    2,
    4096,
)
_SPECIAL_TOKENS = ("<|pad|>", "<unk>", "<s>", "</s>")

LICENCE = """\
The weights in this folder are random numbers and carry no rights. They may be used for anything.
The folder imitates the architecture, and none of the weights, of Microsoft's Phi-3.
"""


def write_model(folder: Path) -> None:
    """Write the model, its tokenizer and its licence into an empty folder."""
    tokens = control_tokens()
    files: dict[str, Any] = {
        "config.json": _config(tokens),
        "generation_config.json": _generation(tokens),
        "tokenizer.json": _tokenizer(tokens),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<unk>",
            "pad_token": "<|pad|>",
            "model_max_length": CONTEXT_LENGTH,
            "clean_up_tokenization_spaces": False,
        },
    }
    for name, value in files.items():
        text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    (folder / "LICENSE").write_text(LICENCE, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(_safetensors_bytes())


def control_tokens() -> dict[str, int]:
    """Return every control token with its id: after the 256 bytes, in the templates' order."""
    texts = [
        *_SPECIAL_TOKENS,
        *(text for template in TEMPLATES.values() for text in template.special_tokens),
    ]
    return {text: 256 + at for at, text in enumerate(dict.fromkeys(texts))}


def _end_token_ids(tokens: dict[str, int]) -> list[int]:
    ends = dict.fromkeys(template.end_of_turn for template in TEMPLATES.values())
    return [tokens["<|endoftext|>"], *(tokens[end] for end in ends)]


def _config(tokens: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INTERMEDIATE_SIZE,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": NUM_KV_HEADS,
        "max_position_embeddings": CONTEXT_LENGTH,
        "original_max_position_embeddings": CONTEXT_LENGTH,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-05,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "tie_word_embeddings": False,
        "bos_token_id": tokens["<s>"],
        "eos_token_id": tokens["<|endoftext|>"],
        "pad_token_id": tokens["<|pad|>"],
        "dtype": "float32",
    }


def _generation(tokens: dict[str, int]) -> dict[str, Any]:
    return {
        "bos_token_id": tokens["<s>"],
        "eos_token_id": _end_token_ids(tokens),
        "pad_token_id": tokens["<|pad|>"],
        "do_sample": False,
    }


def _byte_characters() -> list[str]:
    """Return the character with which byte-level BPE writes each byte (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    substitutes = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(substitutes)) for byte in range(256)]


def _tokenizer(tokens: dict[str, int]) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": at, "content": text, **flags, "special": True} for text, at in tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {letter: byte for byte, letter in enumerate(_byte_characters())},
            "merges": [],
        },
    }


def _shapes() -> dict[str, tuple[int, ...]]:
    queries_keys_values = HIDDEN_SIZE + 2 * HIDDEN_SIZE * NUM_KV_HEADS // NUM_HEADS
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB_SIZE, HIDDEN_SIZE)}
    for layer in range(NUM_LAYERS):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (HIDDEN_SIZE,),
            f"{prefix}.self_attn.qkv_proj.weight": (queries_keys_values, HIDDEN_SIZE),
            f"{prefix}.self_attn.o_proj.weight": (HIDDEN_SIZE, HIDDEN_SIZE),
            f"{prefix}.post_attention_layernorm.weight": (HIDDEN_SIZE,),
            f"{prefix}.mlp.gate_up_proj.weight": (2 * INTERMEDIATE_SIZE, HIDDEN_SIZE),
            f"{prefix}.mlp.down_proj.weight": (HIDDEN_SIZE, INTERMEDIATE_SIZE),
        }
    return shapes | {
        "model.norm.weight": (HIDDEN_SIZE,),
        "lm_head.weight": (VOCAB_SIZE, HIDDEN_SIZE),
    }


def _safetensors_bytes() -> bytes:
    """Return the file ``model.safetensors``: a length, a JSON header, the numbers."""
    rng, header, blocks, at = random.Random(0), {}, [], 0  # noqa: S311 - weights, no secret
    for name, shape in _shapes().items():
        block = _initial_values(rng, shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(block)]}
        blocks.append(block)
        at += len(block)
    header_bytes = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    header_bytes += b" " * (-len(header_bytes) % 8)
    return b"".join([struct.pack("<Q", len(header_bytes)), header_bytes, *blocks])


def _initial_values(rng: random.Random, shape: tuple[int, ...]) -> bytes:
    """Return float32 values: ones for a norm, else uniform with standard deviation 1/sqrt(width)."""
    if len(shape) == 1:
        return struct.pack("<f", 1.0) * shape[0]
    bound = sqrt(3.0 / shape[1])
    levels = [struct.pack("<f", (byte - 127.5) / 127.5 * bound) for byte in range(256)]
    return b"".join(map(levels.__getitem__, rng.randbytes(prod(shape))))
