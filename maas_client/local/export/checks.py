"""What was written, read back by others' code and compared with what answers here."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported when something was exported
from safetensors import safe_open  # noqa: TID253 - as above

from maas_client.chat import render_prompt
from maas_client.errors import MaasError
from maas_client.local.export.trained_model import TrainedModel
from maas_client.local.generate.cache import KeyValueCache
from maas_client.local.generate.model import InferenceModel
from maas_client.local.generate.protocol import BaseSpec

_QUESTION = [{"role": "user", "content": "Tell me, in a few words, what you can do."}]
_FAR = 1e-3
"""The largest divergence (nats) between two forms of one model that is called the same; half
precision costs about 1e-5 (float32 1e-9)."""
_TOKENS = 32


def local_logits(trained: TrainedModel) -> tuple[list[int], torch.Tensor]:
    """Return a probe's tokens, and the scores (vocabulary,) of what this machine answers next."""
    whole = str(trained.base if trained.is_adapter else trained.folder)
    model = InferenceModel(BaseSpec(whole, trained.template.name))
    folder = str(trained.folder) if trained.is_adapter else None
    if folder:
        model.load_adapter(folder)
    model.set_merged_adapter(None)  # beside the weights: merging is what is being checked
    ids = _probe(trained, Path(whole))
    return ids, model.forward([ids], [list(range(len(ids)))], KeyValueCache(), [folder])[0].float()


def _probe(trained: TrainedModel, folder: Path) -> list[int]:
    from tokenizers import Tokenizer

    text = render_prompt(_QUESTION, None, trained.template)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def check_adapter(trained: TrainedModel, out: Path) -> dict[str, Any]:
    """Load the exported adapter with plain PEFT and compare."""
    with _hushed():
        from peft import PeftModel

        theirs = PeftModel.from_pretrained(_load(trained.base), out).eval()
    return _compare(trained, theirs) | {"loaded by": "peft", "layers": _fits_vllm(trained, out)}


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep quiet what PEFT and its helpers say on import: none of it is about this model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def check_merged(trained: TrainedModel, out: Path) -> dict[str, Any]:
    """Load the merged model with plain transformers and compare."""
    return _compare(trained, _load(out)) | {"loaded by": "transformers"}


def _load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    ).eval()


def _compare(trained: TrainedModel, theirs: Any) -> dict[str, Any]:
    ids, ours = local_logits(trained)
    with torch.inference_mode():
        other = theirs(input_ids=torch.tensor([ids])).logits[0, -1].float()
    divergence = _divergence(ours, other)
    if not divergence <= _FAR:
        raise MaasError(
            f"the exported model answers differently (divergence {divergence:.2g} nats)",
            hint="Nothing was written. This is a fault of the export, please report it.",
        )
    return {"divergence_nats": divergence, "largest_difference": float((ours - other).abs().max())}


def _divergence(ours: torch.Tensor, other: torch.Tensor) -> float:
    mine, yours = ours.double().log_softmax(-1), other.double().log_softmax(-1)
    return float((mine.exp() * (mine - yours)).sum())


def _fits_vllm(trained: TrainedModel, out: Path) -> int:
    """Count the adapted layers; each must be a layer of the base under its own (fused) name, which
    is what vLLM looks for."""
    with safe_open(out / "adapter_model.safetensors", framework="pt") as file:
        opened: Any = file
        layers = {key.split(".lora_")[0].removeprefix("base_model.model.") for key in opened.keys()}  # noqa: SIM118 - a file
    held = _names(trained.base)
    if strange := sorted(layer for layer in layers if f"{layer}.weight" not in held):
        raise MaasError(f"the base has no layer {strange[0]}", hint="Nothing was written.")
    return len(layers)


def _names(folder: Path) -> set[str]:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return set(json.loads(index.read_bytes())["weight_map"])
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return set(file.keys())


def check_onnx(
    trained: TrainedModel, merged_folder: Path, out: Path, *, exact: bool
) -> dict[str, Any]:
    """Generate with onnxruntime-genai and compare with transformers: how many tokens agree before
    the first that differs, and both speeds. ``exact`` (fp32) must agree on the next token's scores."""
    import onnxruntime_genai as og

    ids = _probe(trained, merged_folder)
    want, exact_scores, exact_speed = _generate(_load(merged_folder), ids)
    model = og.Model(str(out))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + _TOKENS, do_sample=False)
    generator = og.Generator(model, params)
    started = time.perf_counter()
    generator.append_tokens(ids)
    first = torch.tensor(generator.get_logits()).reshape(-1)
    while not generator.is_done():
        generator.generate_next_token()
    seconds = time.perf_counter() - started
    got = list(generator.get_sequence(0)[len(ids) :])
    divergence = _divergence(exact_scores, first[-exact_scores.shape[0] :].float())
    if not got or (exact and not divergence <= _FAR):
        raise MaasError(
            f"the ONNX model answers differently (divergence {divergence:.2g} nats)",
            hint="Nothing was written. Try another version of onnxruntime-genai.",
        )
    same = next((n for n, pair in enumerate(zip(got, want, strict=False)) if pair[0] != pair[1]),
                min(len(got), len(want)))  # fmt: skip
    return {
        "divergence_nats": divergence,
        "tokens_that_agree": f"{same} of {len(want)}",
        "tokens_s": round(len(got) / seconds, 1),
        "transformers_tokens_s": round(exact_speed, 1),
        "loaded by": "onnxruntime-genai",
    }


def _generate(model: Any, ids: list[int]) -> tuple[list[int], torch.Tensor, float]:
    prompt_ids = torch.tensor([ids])
    with torch.inference_mode():
        scores = model(input_ids=prompt_ids).logits[0, -1].float()
        model.generate(prompt_ids, max_new_tokens=2, do_sample=False, pad_token_id=0)  # warm
        started = time.perf_counter()
        tokens = model.generate(
            prompt_ids, attention_mask=torch.ones_like(prompt_ids), max_new_tokens=_TOKENS,
            do_sample=False, pad_token_id=0,
        )[0, len(ids) :].tolist()  # fmt: skip
    return tokens, scores, len(tokens) / (time.perf_counter() - started)
