"""Answering against ``transformers.generate``: one stream, eight streams, first token, readiness.

Ours is the answering process with an adapter over the base; the peer is ``transformers.generate`` on
the bare base, in a process with the same settings. They take turns, and of all rounds
the best counts for each: what else the machine does only ever adds time. Times are whole, from the
question sent to the last token read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _table import Row, main

from maas_client._settings import Settings
from maas_client.local import bases
from maas_client.local.machine.child_processes import worker_environment

QUESTION = "Write a long story about a fox who learns to cook, in many small chapters. {n}"
FIRST_TOKEN_PROMPT = 200


class Child:
    """A process that speaks JSON lines."""

    def __init__(self, command: list[str], threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=worker_environment(threads), text=True,
        )  # fmt: skip

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        if "error" in said:
            raise SystemExit(said["error"]["message"])
        return said

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """The answering process, its base and its adapter."""

    def __init__(self, base: bases.BaseWeights, adapter: Path, threads: int) -> None:
        started = time.perf_counter()
        self.child = Child(["-P", "-m", "maas_client.local.generate"], threads)
        self.child.line()
        self.target = {"base": base.as_dict(), "adapter": str(adapter)}
        warm = time.perf_counter()
        self.child.send({"op": "load", "id": "load", **self.target})
        self.child.line()
        self.ready_warm_s = time.perf_counter() - warm
        self.ready_cold_s = time.perf_counter() - started

    def ask(self, texts: list[str], tokens: int) -> tuple[float, float, int]:
        """Return seconds to the first piece, seconds to the last, and tokens written."""
        started = time.perf_counter()
        params = {"temperature": 0, "max_tokens": tokens}
        for n, text in enumerate(texts):
            messages = [{"role": "user", "content": text}]
            order = {"messages": messages, "params": params, **self.target}
            self.child.send({"op": "chat", "id": str(n), **order})
        first, written, left = 0.0, 0, len(texts)
        while left:
            said = self.child.line()
            first = first or time.perf_counter() - started
            if said.get("done"):
                left -= 1
                written += said["usage"]["completion_tokens"]
        return first, time.perf_counter() - started, written


def peer(folder: str) -> None:
    """Answer with transformers: one JSON line {"prompt", "tokens"} in, {"seconds"} out."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for line in sys.stdin:
        asked = json.loads(line)
        ids = tokenizer(asked["prompt"], add_special_tokens=False, return_tensors="pt").input_ids
        started = time.perf_counter()
        with torch.inference_mode():
            model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=asked["tokens"],
                do_sample=False, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)


def adapter_for(base: Path, folder: Path) -> Path:
    """Write a LoRA adapter of rank 8 over every linear layer; speed does not ask what it learned."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    torch.manual_seed(0)
    tensors = {}
    with safe_open(base / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - a file, no dict
            shape = file.get_slice(name).get_shape()
            if name.endswith("_proj.weight"):
                at = "base_model.model." + name.removesuffix(".weight")
                tensors[f"{at}.lora_A.weight"] = torch.randn(8, shape[1]) / shape[1] ** 0.5
                tensors[f"{at}.lora_B.weight"] = torch.randn(shape[0], 8) * 0.001
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    place = Settings.load().cache_path()
    if args.base == bases.SMOLLM2:
        base = bases.pull_smollm2(place, progress=lambda text: print(text, file=sys.stderr))
    else:
        base = bases.resolve_base(args.base, args.base, place)
    with tempfile.TemporaryDirectory() as room:
        adapter = (
            Path(args.adapter) if args.adapter else adapter_for(Path(base.folder), Path(room) / "a")
        )
        starts = [_ready(base, adapter, args.threads) for _ in range(args.runs)]
        ours = Ours(base, adapter, args.threads)
        theirs = Child([__file__, "--peer", base.folder], args.threads)
        rounds = [_round(base, ours, theirs, args.tokens) for _ in range(args.runs + 1)][1:]
        ours.child.close()
        theirs.close()

    best = {name: max(one[name] for one in rounds) for name in rounds[0] if name != "first"}
    one, eight, transformers = best["one"], best["eight"], best["transformers"]
    figures = {
        "vs_transformers_ratio": round(one / transformers, 3),
        "eight_streams_ratio": round(eight / one, 3),
        "first_token_s": round(min(one["first"] for one in rounds), 3),
        "ready_warm_s": round(min(warm for warm, _ in starts), 3),
        "ready_cold_s": round(min(cold for _, cold in starts), 3),
        "one_stream_tokens_s": round(one, 1),
        "eight_streams_tokens_s": round(eight, 1),
        "transformers_tokens_s": round(transformers, 1),
        "eight_streams_vs_transformers_ratio": round(eight / transformers, 3),
        "base": base.name,
        "peer": "transformers.generate, bare base, one stream",
    }
    bars = {
        "vs_transformers_ratio": ">= 1", "eight_streams_ratio": ">= 3.5", "first_token_s": "<= 0.35",
        "ready_warm_s": "< 1", "ready_cold_s": "< 6",
    }  # fmt: skip
    rows: list[Row] = [("figure", "measured", "bar")]
    rows += [(name, str(value), bars.get(name, "")) for name, value in figures.items()]
    return figures, rows


def _ready(base: bases.BaseWeights, adapter: Path, threads: int) -> tuple[float, float]:
    ours = Ours(base, adapter, threads)
    ours.child.close()
    return ours.ready_warm_s, ours.ready_cold_s


def _round(base: bases.BaseWeights, ours: Ours, theirs: Child, tokens: int) -> dict[str, float]:
    from maas_client.chat import render_prompt

    one = QUESTION.format(n="")
    _, seconds, written = ours.ask([one], tokens)
    text = render_prompt([{"role": "user", "content": one}], None, base.chat_template)
    theirs.send({"prompt": text, "tokens": written})
    peer_s = theirs.line()["seconds"]
    _, eight_s, eight = ours.ask([QUESTION.format(n=n) for n in range(8)], tokens)
    first, _, _ = ours.ask([_long_question(base)], 2)
    return {
        "one": written / seconds,
        "transformers": written / peer_s,
        "eight": eight / eight_s,
        "first": first,
    }


def _long_question(base: bases.BaseWeights) -> str:
    """Return a question whose prompt has just over 200 tokens."""
    from tokenizers import Tokenizer

    from maas_client.chat import render_prompt

    tokenizer = Tokenizer.from_file(str(Path(base.folder) / "tokenizer.json"))
    words = "Once"
    while True:
        text = render_prompt([{"role": "user", "content": words}], None, base.chat_template)
        if len(tokenizer.encode(text, add_special_tokens=False).ids) >= FIRST_TOKEN_PROMPT:
            return words
        words += " more"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base", default=bases.SMOLLM2, help="default smollm2-135m; tiny; a folder"
    )
    parser.add_argument("--adapter", help="a folder; default: one of rank 8 made for the bench")
    parser.add_argument("--tokens", type=int, default=96, help="per answer; default 96")
    parser.add_argument("--runs", type=int, default=4, help="rounds; default 4")
    parser.add_argument("--threads", type=int, default=2, help="default 2")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2])
    else:
        main(__doc__ or "", measure, options)
