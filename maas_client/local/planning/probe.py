"""Measure time and memory of training steps on a few blocks of a model's shape.

``python -m maas_client.local.planning.probe`` reads one JSON object from stdin and writes one to stdout. It
runs the training code of a job on random weights, without any download. Two probes with different numbers of
blocks give the cost of one block and of the rest.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - runs in a child process

from maas_client.local.resources.training_config import TrainingConfig, parse_hyperparameters
from maas_client.local.training import adapters, attention, load_base, strategies
from maas_client.local.training.data import Example
from maas_client.local.training.fused_modules import fuse_modules
from maas_client.local.training.model_loss import ModelWithLoss
from maas_client.local.training.packing import (
    Batch,
    PackLimits,
    divide_into_packs,
    effective_limits,
)
from maas_client.local.training.train import RunProgress, create_optimizer, train


def main() -> None:
    """Measure the shape that stdin describes, and print the result."""
    request = json.loads(sys.stdin.read())
    torch.set_num_threads(int(request["threads"]))
    torch.manual_seed(0)
    runtime_bytes = peak_bytes()
    rank = {} if request["method"] == "Full" else {"lora_r": request["r"]}
    config = parse_hyperparameters({"method": request["method"], **rank})
    model = build_model(request["shape"], int(request["blocks"]), config)
    adapted, _ = adapters.make_trainable(model, config)
    model_with_loss = ModelWithLoss(adapted)
    engine = strategies.prepare_strategy(
        model_with_loss, create_optimizer(model_with_loss, config), "cpu", config
    )
    batch = random_batch(
        request["lengths"],
        float(request["learned_share"]),
        int(request["shape"]["vocab_size"]),
        effective_limits(PackLimits(threads=int(request["threads"])), config),
    )
    steps = int(request["steps"])
    step_times = []
    started_at = time.perf_counter()
    for _ in train(engine.model, [batch] * steps, config, RunProgress(total_steps=steps), engine):
        now = time.perf_counter()
        step_times.append(now - started_at)
        started_at = now
    print(
        json.dumps(
            {
                "step_s": min(step_times[1:]),  # other programs only add to it
                "peak_bytes": peak_bytes(),
                "runtime_bytes": runtime_bytes,
            }
        )
    )


def build_model(shape: dict[str, Any], blocks: int, training_config: TrainingConfig) -> Any:
    """Return a model of this shape with ``blocks`` blocks and random weights.

    As when a job loads a model, no weight exists twice, and few of QLoRA's layers exist in full precision.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        shape["model_type"],
        hidden_size=shape["hidden_size"],
        num_hidden_layers=blocks,
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        head_dim=shape["head_dim"],
        intermediate_size=shape["intermediate_size"],
        vocab_size=shape["vocab_size"],
        tie_word_embeddings=bool(shape["tied_embeddings"]),
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention.register()
        )
    with load_base.trim_heap():
        if training_config.method == "QLoRA":
            _quantize_layers(model)
        _fill_weights(model, config)
    model.eval().requires_grad_(False)
    fuse_modules(model)
    load_base.choose_products(model, None).apply()
    return model


def _quantize_layers(model: Any) -> None:
    """Convert the blocks' linear layers to nf4, as in the base of a QLoRA job."""
    layers_by_size: dict[tuple[int, int], Any] = {}
    for name in adapters.linear_layers(model):
        parent, _, attribute = name.rpartition(".")
        linear = model.get_submodule(name)
        shape_key = (linear.in_features, linear.out_features)
        if shape_key not in layers_by_size:
            layers_by_size[shape_key] = _quantized_layer(linear)
        setattr(model.get_submodule(parent), attribute, copy.deepcopy(layers_by_size[shape_key]))


def _quantized_layer(linear: Any) -> Any:
    import bitsandbytes as bnb

    quantized = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=False,
        compute_dtype=torch.float32,
        quant_type="nf4",
        device="meta",
    )
    quantized.weight = bnb.nn.Params4bit(
        _random_tensor(linear.weight),
        requires_grad=False,
        quant_type="nf4",
        compress_statistics=True,
    )
    return quantized.to("cpu")


def _fill_weights(model: Any, config: Any) -> None:
    """Replace meta weights by random ones (tied weights stay tied), and rebuild modules with meta buffers."""
    replacements: dict[int, torch.nn.Parameter] = {}
    for name, module in list(model.named_modules()):
        for attribute, weight in module.named_parameters(recurse=False):
            if weight.is_meta and id(weight) not in replacements:
                replacements[id(weight)] = torch.nn.Parameter(_random_tensor(weight))
            setattr(module, attribute, replacements.get(id(weight), weight))
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            model.set_submodule(name, type(module)(config))


def _random_tensor(weight: torch.Tensor) -> torch.Tensor:
    return torch.empty(weight.shape, device="cpu").normal_(std=0.02)


def random_batch(
    lengths: list[int], learned_share: float, vocabulary: int, limits: PackLimits
) -> Batch:
    """Return a batch of random documents whose last part carries loss, like an answer."""
    examples = []
    for line, length in enumerate(lengths, 1):
        ids = torch.randint(0, vocabulary, (length,)).tolist()
        prompt_length = length - max(1, round(length * learned_share))
        examples.append(
            Example(ids, [False] * prompt_length + [True] * (length - prompt_length), line)
        )
    learned = sum(example.learned_tokens for example in examples)
    return Batch(
        [divide_into_packs(examples, limits)],
        sum(lengths),
        learned,
        0.0,
        tuple(range(1, len(lengths) + 1)),
    )


def peak_bytes() -> int:
    """Return the peak resident memory of this process; 0 if the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
