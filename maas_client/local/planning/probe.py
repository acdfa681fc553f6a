"""A step of training on a few blocks of a model's shape, timed and weighed on this machine.

``python -m maas_client.local.planning.probe`` reads one JSON object from stdin and writes one to stdout.
It runs what a job runs (``local/peft``), on random weights: nothing is downloaded. Two probes with
different numbers of blocks give what one block costs and what the rest costs.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is a process of its own

from maas_client.local.machine import heap
from maas_client.local.resources.training_config import TrainingConfig, parse_hyperparameters
from maas_client.local.training import adapters, attention, engines
from maas_client.local.training.data import Example
from maas_client.local.training.fused_modules import fuse_modules
from maas_client.local.training.model_loss import ModelWithLoss
from maas_client.local.training.packing import Batch, pack_examples
from maas_client.local.training.train import RunProgress, create_optimizer, train


def main() -> None:
    """Measure what stdin asks for."""
    asked = json.loads(sys.stdin.read())
    torch.set_num_threads(int(asked["threads"]))
    torch.manual_seed(0)
    runtime = peak_bytes()
    recipe = parse_hyperparameters({"method": asked["method"], "lora_r": asked["r"]})
    model = build_model(asked["shape"], int(asked["blocks"]), recipe)
    adapted, _ = adapters.make_trainable(model, recipe)
    learner = ModelWithLoss(adapted)
    engine = engines.prepare_engine(learner, create_optimizer(learner, recipe), "cpu", recipe)
    batch = random_batch(
        asked["lengths"], float(asked["learned_share"]), int(asked["shape"]["vocab_size"])
    )
    steps = int(asked["steps"])
    took = []
    start = time.perf_counter()
    for _ in train(engine.model, [batch] * steps, recipe, RunProgress(total_steps=steps), engine):
        now = time.perf_counter()
        took.append(now - start)
        start = now
    print(
        json.dumps(
            {
                "step_s": statistics.median(took[1:]),
                "peak_bytes": peak_bytes(),
                "runtime_bytes": runtime,
            }
        )
    )


def build_model(shape: dict[str, Any], blocks: int, training_config: TrainingConfig) -> Any:
    """Return a model of this shape with ``blocks`` blocks and random weights.

    As where a job loads one, no weight is ever there twice, and few of QLoRA's layers in full width.
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
    with heap.trim_heap():
        if training_config.method == "QLoRA":
            _narrow(model)
        _fill(model, config)
    model.eval().requires_grad_(False)
    fuse_modules(model)
    return model


def _narrow(model: Any) -> None:
    """Hold the blocks' linear layers in nf4, as a QLoRA job's base is held."""
    made: dict[tuple[int, int], Any] = {}
    for name in adapters.linear_layers(model):
        parent, _, own = name.rpartition(".")
        plain = model.get_submodule(name)
        size = (plain.in_features, plain.out_features)
        if size not in made:
            made[size] = _four_bits(plain)
        setattr(model.get_submodule(parent), own, copy.deepcopy(made[size]))


def _four_bits(plain: Any) -> Any:
    import bitsandbytes as bnb

    four = bnb.nn.Linear4bit(
        plain.in_features,
        plain.out_features,
        bias=False,
        compute_dtype=torch.float32,
        quant_type="nf4",
        device="meta",
    )
    four.weight = bnb.nn.Params4bit(
        _random(plain.weight), requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    return four.to("cpu")


def _fill(model: Any, config: Any) -> None:
    """Give weights that have no numbers random ones, tied ones the same, and rotary tables their own."""
    known: dict[int, torch.nn.Parameter] = {}
    for name, inner in list(model.named_modules()):
        for own, weight in inner.named_parameters(recurse=False):
            if weight.is_meta and id(weight) not in known:
                known[id(weight)] = torch.nn.Parameter(_random(weight))
            setattr(inner, own, known.get(id(weight), weight))
        if any(table.is_meta for table in inner.buffers(recurse=False)):
            model.set_submodule(name, type(inner)(config))


def _random(like: torch.Tensor) -> torch.Tensor:
    return torch.empty(like.shape, device="cpu").normal_(std=0.02)


def random_batch(lengths: list[int], learned_share: float, vocabulary: int) -> Batch:
    """Return a batch of random documents; the last part of each is learned, as an answer is."""
    examples = []
    for line, length in enumerate(lengths, 1):
        ids = torch.randint(0, vocabulary, (length,)).tolist()
        prompt = length - max(1, round(length * learned_share))
        examples.append(Example(ids, [False] * prompt + [True] * (length - prompt), line))
    learned = sum(one.learned_tokens for one in examples)
    return Batch(
        [pack_examples(examples)], sum(lengths), learned, 0.0, tuple(range(1, len(lengths) + 1))
    )


def peak_bytes() -> int:
    """Return the most memory this process has had resident; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
