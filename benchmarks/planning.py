"""Compare the memory and time that ``maas-client plan`` predicts with those of the real job."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _table import Row, main

from maas_client._cores import usable_cores
from maas_client._settings import Settings
from maas_client.local import bases
from maas_client.local.machine import model_architecture
from maas_client.local.machine.child_processes import worker_environment
from maas_client.local.planning import measure

CHILD = """
import json, sys, threading, time
from maas_client.local.training.run import run
spec = json.load(sys.stdin)
def memory(kind):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))
samples = []
def record():
    while True:
        samples.append(memory("RssAnon"))
        time.sleep(0.01)
threading.Thread(target=record, daemon=True).start()
events = []
run(spec, events.append)
print(json.dumps({"events": events, "peak_bytes": max(samples) + memory("RssFile")}))
"""
# The system can reclaim pages of the memory-mapped weights file (RssFile), so only their final size counts.


def medium(folder: Path, tiny: Path) -> Path:
    """Create a random Phi-3 of about 40 million parameters with the tokenizer of ``tiny``."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    config = AutoConfig.from_pretrained(tiny)
    config.update(
        {
            "hidden_size": 640,
            "num_hidden_layers": 8,
            "num_attention_heads": 10,
            "num_key_value_heads": 10,
            "head_dim": 64,
            "intermediate_size": 1728,
            "max_position_embeddings": 4096,
        }
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def rows(path: Path, count: int, words: int) -> None:
    rng = random.Random(0)
    with path.open("w") as file:
        for _ in range(count):
            texts = [" ".join(f"w{rng.randint(0, 999)}" for _ in range(words)) for _ in range(2)]
            messages = [
                {"role": r, "content": c} for r, c in zip(("user", "assistant"), texts, strict=True)
            ]
            file.write(json.dumps({"messages": messages}) + "\n")


def job(base: bases.BaseWeights, method: str, data: Path, out: Path, batch: int) -> dict[str, Any]:
    """Run the job and return its tokens, its time per epoch and its peak memory."""
    spec = {
        "job": "bench",
        "model": base.model,
        "base": base.as_dict(),
        "train": str(data),
        "validation": None,
        "hyperparameters": {"method": method, "batch_size": batch},
        "out": str(out),
        "threads": usable_cores(),
        "device": "cpu",
    }
    env = worker_environment(usable_cores(), device="cpu")
    process = subprocess.run(
        [sys.executable, "-P", "-c", CHILD],
        input=json.dumps(spec),
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    if process.returncode:
        raise SystemExit(process.stderr[-2000:])
    output = json.loads(process.stdout.splitlines()[-1])
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for event in output["events"]:
        by_kind.setdefault(event["event"], []).append(event)
    started, steps = by_kind["started"][0], by_kind["step"]
    # tokens_per_s is a running mean over the whole run so far: at the end, over all of it
    seconds = started["tokens"] / steps[-1]["tokens_per_s"]
    return {
        "tokens": started["tokens"],
        "learned": started["learned_tokens"],
        "rows": started["examples"],
        "epoch_s": seconds,
        "peak_bytes": output["peak_bytes"],
    }


def measure_all(args: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    cache = Settings.load().cache_path()
    figures: dict[str, Any] = {}
    table: list[Row] = [("base", "method", "peak planned/measured", "epoch planned/measured")]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        tiny = Path(bases.resolve_base("tiny", "tiny", cache).folder)
        bases_by_name = {
            "medium": bases.resolve_base("Phi-3-mini", str(medium(folder / "medium", tiny)), cache)
        }
        if bases.SMOLLM2 in bases.list_available(cache):
            bases_by_name["smollm2"] = bases.resolve_base("smollm2-135m", bases.SMOLLM2, cache)
        data = folder / "train.jsonl"
        rows(data, args.rows, args.words)
        for name, base in bases_by_name.items():
            for method in args.methods.split(","):
                measured = job(base, method, data, folder / f"{name}-{method}", args.batch_size)
                row_stats = measure.RowStats(
                    measured["rows"],
                    measured["tokens"] / measured["rows"],
                    measured["learned"] / measured["tokens"],
                )
                planned = measure.measure(
                    model_architecture.load_architecture(Path(base.folder)),
                    method,
                    row_stats,
                    batch_size=args.batch_size,
                    r=8,
                    threads=usable_cores(),
                )
                memory = planned.peak_bytes / measured["peak_bytes"]
                time = (
                    planned.step_s * -(-measured["rows"] // args.batch_size) / measured["epoch_s"]
                )
                figures[f"{name}_{method.lower()}_memory_ratio"] = round(memory, 3)
                figures[f"{name}_{method.lower()}_time_ratio"] = round(time, 3)
                table.append((name, method, f"{memory:.2f}", f"{time:.2f}"))
    figures["worst_ratio"] = max((max(v, 1 / v) for v in figures.values()), default=None)
    figures["median_ratio"] = statistics.median(
        v for k, v in figures.items() if k.endswith("_ratio")
    )
    return figures, table


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=48, help="default 48")
    parser.add_argument("--words", type=int, default=40, help="per message, default 40")
    parser.add_argument("--batch-size", type=int, default=4, help="default 4")
    parser.add_argument("--methods", default="LoRA,DoRA", help="default LoRA,DoRA")


if __name__ == "__main__":
    main(__doc__ or "", measure_all, options)
