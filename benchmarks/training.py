"""Compare training with TRL's SFTTrainer: tokens of real text per second, memory, and losses.

SmolLM2-135M, gsm8k chat, batches of 4 examples, fp32, adapters on every linear layer of a block.
Each side runs in a process of its own with the same number of threads: ours with the settings the
local server gives its workers, TRL padded (its default) and packed (to 1,024 tokens, about 4
examples). The best of ``--rounds`` counts; TRL runs with our setting for idle threads in one round and
with its default in the next. The roof is the rate of the machine's faster product (torch's or oneDNN's,
timed between the steps at this model's shapes) divided by the work per token; ``cpu_roof_ratio`` compares
CPU seconds, which other programs do not lengthen. ``--profile`` prints where a
step's time goes instead. ``--isa avx2`` keeps every side from AVX-512, as a processor without it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _step_profile import seconds_by_part
from _table import ISA, Row, main, processor

from maas_client._settings import Settings
from maas_client.chat import TEMPLATES
from maas_client.local import bases
from maas_client.local.machine.child_processes import worker_environment

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "gsm8k_chat.jsonl"
BATCH, RATE, PACKED = 4, 2e-4, 1024
BODY, HEAD = 106.2e6, 28.3e6
"""Weights multiplied for every token, and for every learned one."""
METHODS = ("LoRA", "DoRA", "QLoRA")
PEERS = ("trl", "trl_packed")


def options(parser: argparse.ArgumentParser) -> None:
    """Add this bench's own flags."""
    parser.add_argument(
        "--data", type=Path, default=DATA, help="a chat file; GSM8K as chats by default"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="timed steps, after one warm-up")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--profile", action="store_true", help="where a step's time goes")
    parser.add_argument("--isa", choices=list(ISA), default="native", help="instructions to use")


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    """Run every side and put the figures together."""
    folder = Settings.load().cache_path()
    base = bases.resolve_base("smollm2-135m", "smollm2-135m", folder)
    figures: dict[str, Any] = {"peer": "trl SFTTrainer, padded and packed", "threads": args.threads}
    figures |= {"processor": processor(), "isa": args.isa}
    rows: list[Row] = [("method", "side", "tokens/s", "CPU s per 1k tokens", "peak MB", "losses")]
    with tempfile.TemporaryDirectory() as folder:
        task = {"data": str(args.data), "folder": base.folder, "room": folder}
        task |= {"steps": args.steps, "threads": args.threads, "isa": args.isa}
        if args.profile:
            return _profile_table(task, args.methods.split(","), figures)
        for method in args.methods.split(","):
            sides = {side: _best(task | {"method": method, "side": side}, args.rounds)
                     for side in ("ours", *PEERS)}  # fmt: skip
            for side, result in sides.items():
                rows.append(_row(method, side, result))
            figures |= _ratios(method, sides)
        exact = _child(task | {"method": "LoRA", "side": "exact"})
    figures |= exact
    rows.append(("LoRA", "one at a time", "", "", "", json.dumps(exact)))
    return figures, rows


def _best(task: dict[str, Any], rounds: int) -> dict[str, Any]:
    results = (_child(task | {"round": number}) for number in range(rounds))
    return max(results, key=lambda result: float(result["tokens_per_s"]))


def _row(method: str, side: str, result: dict[str, Any]) -> Row:
    losses = " ".join(f"{loss:.3f}" for loss in result["losses"][:4])
    cpu = f"{1000 * result['cpu_s'] / result['tokens']:.2f}"
    return method, side, f"{result['tokens_per_s']:.0f}", cpu, f"{result['peak_mb']:.0f}", losses


def _ratios(method: str, sides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    local, padded, packed = sides["ours"], sides["trl"], sides["trl_packed"]
    prefix = "" if method == "LoRA" else f"{method.lower()}_"
    rate = local["tokens_per_s"]
    figures = {
        f"{prefix}tokens_per_s": round(rate, 1),
        f"{prefix}vs_trl_ratio": round(rate / padded["tokens_per_s"], 3),
        f"{prefix}vs_trl_packed_ratio": round(rate / packed["tokens_per_s"], 3),
        f"{prefix}memory_vs_trl_ratio": round(local["peak_mb"] / padded["peak_mb"], 3),
        f"{prefix}memory_vs_trl_packed_ratio": round(local["peak_mb"] / packed["peak_mb"], 3),
        f"{prefix}cpu_vs_trl_ratio": round(
            padded["cpu_s"] / padded["tokens"] / (local["cpu_s"] / local["tokens"]), 3
        ),
    }
    figures |= {f"{prefix}{name}": value for name, value in _roof(local).items()}
    return figures


def _roof(local: dict[str, Any]) -> dict[str, float]:
    """Return the rates of both products, and the share of the faster one's that the steps reached."""
    needed = 4 * (BODY + HEAD * local["learned_share"])
    rates = local["gflops"], local["onednn_gflops"]
    cpu_rate = max(local["cpu_gflops"], local["cpu_onednn_gflops"])
    per_cpu_s = local["tokens"] * needed / local["cpu_s"] / 1e9
    return {
        "gflops": round(rates[0], 1),
        "onednn_gflops": round(rates[1], 1),
        "roof_ratio": round(local["tokens_per_s"] * needed / (max(rates) * 1e9), 3),
        "cpu_roof_ratio": round(per_cpu_s / cpu_rate, 3),
    }


def _profile_table(
    task: dict[str, Any], methods: list[str], figures: dict[str, Any]
) -> tuple[dict[str, Any], list[Row]]:
    """Return where the time of a step of ours goes: seconds and share of each part, by method."""
    rows: list[Row] = [("method", "part", "s per step", "share")]
    for method in methods:
        result = _child(task | {"method": method, "side": "profile"})
        parts, whole = result["parts"], sum(result["parts"].values())
        for part in sorted(parts, key=parts.get, reverse=True):
            rows.append((method, part, f"{parts[part]:.3f}", f"{100 * parts[part] / whole:.1f} %"))
        system = f"{100 * task['steps'] * result['system_s'] / result['cpu_s']:.1f} % of CPU"
        faults = f"system time ({result['faults']:.0f} page faults)"
        rows.append((method, faults, f"{result['system_s']:.3f}", system))
        roof = _roof(result)
        rows += [(method, name, "", str(roof[name])) for name in ("roof_ratio", "cpu_roof_ratio")]
        figures[method] = result | roof
    return figures, rows


def _child(task: dict[str, Any]) -> dict[str, Any]:
    """Run one side in a process of its own and return what it measured."""
    env = dict(os.environ) | worker_environment(task["threads"], device="cpu")  # noqa: TID251 - a bench
    if task["side"] in PEERS:  # as it comes, and in every other round with threads that sleep too
        ours_only = ("MALLOC_", "GLIBC_", "ONEDNN_", "LRU_") + (
            ("OMP_WAIT_POLICY",) if task["round"] % 2 else ()
        )
        env = {name: value for name, value in env.items() if not name.startswith(ours_only)}
    env |= ISA[task["isa"]]
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task['side']} {task['method']} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# -- in the child -----------------------------------------------------------------------------


def _examples(task: dict[str, Any]) -> Any:
    from maas_client.local.training import data, load_base

    tokenizer = load_base.load_tokenizer(task["folder"])
    count = BATCH * (task["steps"] + 1)
    with open(task["data"], encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(count), file, strict=False)]
    examples, _ = data.tokenize_rows(enumerate(rows, 1), tokenizer, TEMPLATES["smollm2"], 8192)
    return tokenizer, examples


def _ours(task: dict[str, Any]) -> Iterator[tuple[float, int]]:
    """Yield loss and tokens of each step, as the worker takes them."""
    from maas_client.local.resources.training_config import TrainingConfig
    from maas_client.local.training import adapters, load_base, strategies
    from maas_client.local.training.model_loss import ModelWithLoss
    from maas_client.local.training.packing import PackLimits
    from maas_client.local.training.train import RunProgress, create_optimizer, train

    config = TrainingConfig(
        method=task["method"], batch_size=BATCH, learning_rate=RATE, lr_scheduler_type="constant"
    )
    _, examples = _examples(task)
    model, _ = adapters.make_trainable(load_base.load_model(task["folder"], config, "cpu"), config)
    learner = ModelWithLoss(model)
    engine = strategies.prepare_strategy(learner, create_optimizer(learner, config), "cpu", config)
    batches = _in_order(examples, config, PackLimits(threads=task["threads"]))
    for step in train(
        engine.model, batches, config, RunProgress(total_steps=task["steps"] + 1), engine
    ):
        yield step.loss, step.tokens


def _in_order(examples: Any, config: Any, limits: Any) -> Iterator[Any]:
    """Yield batches in the file's order, which the peers follow too."""
    from maas_client.local.training.packing import Batch, divide_into_packs, group_examples

    for start in range(0, len(examples), BATCH):
        step_examples = examples[start : start + BATCH]
        packs = [
            divide_into_packs(documents, limits)
            for documents in group_examples(step_examples, limits)
        ]
        learned = sum(example.learned_tokens for example in step_examples)
        yield Batch(
            packs, sum(len(example.input_ids) for example in step_examples), learned, 1.0, ()
        )


def _trl(task: dict[str, Any]) -> Iterator[tuple[float, int]]:
    """Yield loss and tokens of each step of TRL's trainer, with PEFT's own layers."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokenizer, examples = _examples(task)
    packed, quantised = task["side"] == "trl_packed", task["method"] == "QLoRA"
    marked = [
        [i if m else -100 for i, m in zip(e.input_ids, e.loss_mask, strict=True)] for e in examples
    ]
    data = Dataset.from_dict({"input_ids": [e.input_ids for e in examples], "labels": marked})
    four = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    extra = {"quantization_config": four} if quantised else {}
    model = AutoModelForCausalLM.from_pretrained(task["folder"], dtype=torch.float32, **extra)
    torch.manual_seed(42)
    adapter = LoraConfig(
        r=8, lora_alpha=128, target_modules="all-linear", task_type="CAUSAL_LM",
        use_dora=task["method"] == "DoRA",
    )  # fmt: skip
    logged: list[tuple[float, float, float]] = []

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                logged.append((logs["loss"], time.perf_counter(), time.process_time()))

    class InOrder(SFTTrainer):  # type: ignore[misc]  # trl ships no types
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    settings = SFTConfig(
        output_dir=task["room"], per_device_train_batch_size=1 if packed else BATCH,
        max_steps=task["steps"] + 1, learning_rate=RATE, lr_scheduler_type="constant",
        weight_decay=0.1, logging_steps=1, save_strategy="no", report_to=[], use_cpu=True,
        bf16=False, packing=packed, max_length=PACKED, gradient_checkpointing=False, seed=42,
        disable_tqdm=True, dataloader_pin_memory=False, shuffle_dataset=False,
    )  # fmt: skip
    trainer = InOrder(
        model=get_peft_model(model, adapter), args=settings, train_dataset=data,
        processing_class=tokenizer, callbacks=[Watch()],
    )  # fmt: skip
    trainer.train()
    sizes = [len(row) for row in trainer.train_dataset["input_ids"]]
    each = 1 if packed else BATCH
    task["times"] = logged
    for step, (loss, _, _) in enumerate(logged):
        yield loss, sum(sizes[step * each : (step + 1) * each])


def _timed(
    task: dict[str, Any], side: Callable[[dict[str, Any]], Any], between: Callable[[], None]
) -> dict[str, Any]:
    """Time the steps after the first; ``between`` runs after each step and is not counted."""
    losses, tokens = [], []
    wall = cpu = faults = system = 0.0
    start = _usage()
    for loss, count in side(task):
        spent = _spent(start)
        if losses:
            wall, cpu, faults, system = (
                total + part for total, part in zip((wall, cpu, faults, system), spent, strict=True)
            )
        losses.append(loss)
        tokens.append(count)
        between()
        start = _usage()
    if "times" in task:  # a trainer's own loop
        first, last = task["times"][0], task["times"][-1]
        wall, cpu = last[1] - first[1], last[2] - first[2]
    done, steps = sum(tokens[1:]), len(tokens) - 1
    return {
        "tokens_per_s": done / wall,
        "cpu_s": cpu,
        "tokens": done,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "losses": losses,
        "faults": faults / steps,
        "system_s": system / steps,
    }


def _usage() -> tuple[float, ...]:
    """Return wall and CPU seconds, page faults, and seconds of system time so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), time.process_time(), used.ru_minflt, used.ru_stime


def _spent(start: tuple[float, ...]) -> list[float]:
    return [now - then for now, then in zip(_usage(), start, strict=True)]


class _ProductRates:
    """The rates of torch's own product and of oneDNN's, timed between steps: machines change their speed.

    The rates per CPU second do not depend on what else the machine does.
    """

    def __init__(self) -> None:
        import torch

        from maas_client.local.machine import matmul_choice, onednn

        self._matrices = torch.randn(1024, 576), torch.randn(1536, 576)
        self._functions = {"gflops": torch.nn.functional.linear, "onednn_gflops": onednn.linear}
        self._choice, self._select = matmul_choice, onednn.select
        self._rates: dict[str, list[float]] = defaultdict(list)

    def time(self) -> None:
        """Time both products for about 0.1 s, in seconds and in CPU seconds."""
        selected = self._choice.current()
        self._select(self._choice.KINDS)
        for name, function in self._functions.items():
            best = [1e9, 1e9]
            for _ in range(5):
                start = _usage()
                function(*self._matrices)
                best = [min(pair) for pair in zip(best, _spent(start)[:2], strict=True)]
            for prefix, seconds in zip(("", "cpu_"), best, strict=True):
                self._rates[f"{prefix}{name}"].append(2 * 1024 * 576 * 1536 / seconds / 1e9)
        selected.apply()

    def medians(self) -> dict[str, float]:
        """Return the median rate of each product in GFLOP/s."""
        return {name: statistics.median(rates) for name, rates in self._rates.items()}


def _exact(task: dict[str, Any]) -> dict[str, float]:
    """Return how far a packed step is from one example at a time, in loss and gradients."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from maas_client.local.resources.training_config import TrainingConfig
    from maas_client.local.training import adapters, load_base
    from maas_client.local.training.model_loss import ModelWithLoss
    from maas_client.local.training.packing import PackLimits

    config = TrainingConfig(batch_size=BATCH)
    _, examples = _examples(task)
    (batch, *_) = _in_order(examples, config, PackLimits())
    local, _ = adapters.make_trainable(load_base.load_model(task["folder"], config, "cpu"), config)
    learner = ModelWithLoss(local).train()
    total = 0.0
    for (pack,) in batch.packs:
        loss, _ = learner(*pack)
        (loss / batch.learned_tokens).backward()
        total += float(loss.detach())
    plain = AutoModelForCausalLM.from_pretrained(task["folder"], dtype=torch.float32)
    torch.manual_seed(config.seed)
    plain = get_peft_model(
        plain, LoraConfig(r=8, lora_alpha=128, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    single = 0.0
    for example in examples[:BATCH]:
        logits = plain(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
        mask = torch.tensor(example.loss_mask)[1:]
        targets = torch.tensor(example.input_ids)[1:]
        loss = torch.nn.functional.cross_entropy(logits[mask], targets[mask], reduction="sum")
        (loss / batch.learned_tokens).backward()
        single += loss.item()
    reference_grads = {name: w.grad for name, w in plain.named_parameters() if w.grad is not None}
    differences = [
        (w.grad - reference_grads[n]).abs().max()
        for n, w in local.named_parameters()
        if n in reference_grads
    ]
    return {
        "loss_difference": abs(total - single) / batch.learned_tokens,
        "gradient_difference": float(max(differences)),
    }


def _work(task: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(task["threads"])
    if task["side"] == "exact":
        return _exact(task)
    if task["side"] in PEERS:
        return _timed(task, _trl, lambda: None)
    rates = _ProductRates()
    result = _timed(task, _ours, rates.time) | rates.medians()
    _, examples = _examples(task)
    learned = sum(example.learned_tokens for example in examples)
    result["learned_share"] = learned / sum(len(example.input_ids) for example in examples)
    if task["side"] == "profile":
        result["parts"] = seconds_by_part(
            lambda: _ours(task | {"steps": min(3, task["steps"])}), task["threads"]
        )
    return result


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(_work(json.loads(sys.argv[2]))))
    else:
        main(__doc__ or "", measure, options)
