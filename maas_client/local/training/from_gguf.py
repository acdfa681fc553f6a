"""Convert GGUF to safetensors: ``python -m maas_client.local.training.from_gguf FILE.gguf FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf: Path, folder: Path) -> None:
    """Write model and tokenizer of ``gguf`` into ``folder``, in float32, with separate pad and end tokens."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype="float32", **options)
    tokenizer.pad_token = "<|endoftext|>"  # noqa: S105 - a special token, no password
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]  # model.save_pretrained would set it
    for settings in (model.config, model.generation_config):
        settings.pad_token_id = tokenizer.pad_token_id
        settings.bos_token_id = tokenizer.bos_token_id
        settings.eos_token_id = tokenizer.eos_token_id
        settings.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # model.save_pretrained refuses: it takes a model read from GGUF for a quantised one
    tied = set(model.all_tied_weights_keys)
    weights = {name: value for name, value in model.state_dict().items() if name not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
