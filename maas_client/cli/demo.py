"""``maas-client demo``: the whole road on this machine, base and tuned model side by side.

Nothing leaves this machine but the download of the base weights, and nothing stays behind but those
(``--keep`` keeps the server's state too). The server runs in this program, training and answering in
child processes of it; all of them end with the demo, however it ends.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_client._package_data import example_data_dir
from maas_client._settings import Settings
from maas_client.cli._follow import follow_job
from maas_client.cli._job_options import note_resolved_model
from maas_client.cli._output import print_json, print_note
from maas_client.errors import JobFailedError

if TYPE_CHECKING:
    from maas_client import Client, FineTuneResult, JobEvent
    from maas_client.local.embed import LocalServer
    from maas_client.types.evaluation import Evaluation

_MODEL = "Phi-3-mini-4k-instruct"
_RECIPES: dict[str, dict[str, Any]] = {
    # Rank and scale are the service's own (r 8, alpha 128). The rate was measured: 3e-4 for three passes
    # learns the voice and half of the facts, 1e-3 for two passes most of them.
    "smollm2-135m": {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3},
    "tiny": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
}

_SCORED = 12
_LONGEST = 64
"""Tokens of an answer; the taught ones are shorter."""
_NOISE = {
    "tiny": " (half a million random numbers: its loss shows that it learns, its answers are noise)"
}


@dataclass(slots=True)
class _Losses:
    """Validation losses by step; step 0 is the base model."""

    by_step: dict[int, float] = field(default_factory=dict)

    def take(self, event: JobEvent) -> None:
        if event.step is not None and "valid_loss" in event.metrics:
            self.by_step[event.step] = event.metrics["valid_loss"]

    def base(self) -> float | None:
        return self.by_step.get(0)

    def tuned(self) -> float | None:
        return self.by_step[max(self.by_step)] if self.by_step and max(self.by_step) else None


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One held-out question, what a right answer says, and both answers."""

    question: str
    expected: list[str]
    base: str
    tuned: str

    def is_correct(self, answer: str) -> bool:
        return all(fact.lower() in answer.lower() for fact in self.expected)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--base", choices=tuple(_RECIPES), default="smollm2-135m",
                        help="tiny takes seconds and answers with noise")  # fmt: skip
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the data")
    parser.add_argument("--state-dir", metavar="DIR", help="for the server (default: a new one)")
    parser.add_argument(
        "--keep", action="store_true", help="keep the server's state and what was tuned"
    )


def run(args: argparse.Namespace) -> int:
    """Pull, serve, check, upload, train, deploy, ask. Prints both models' answers."""
    began = time.monotonic()
    data = example_data_dir()
    if args.base == "smollm2-135m":
        _pull()
    with _server(args) as server, server.client() as client:
        print_note(f"1. the local server answers at {server.url}; Azure is not asked anything")
        result, losses = _tune(args, client, data)
        print_note(
            "4. deploying base and tuned model, and asking both what neither was taught word for word"
        )
        asked = _ask(client, result, data / "questions.jsonl")
        print_note(f"5. scoring both on {_SCORED} held-out chats")
        scores = client.evaluate(
            "tuned", data / "validation.jsonl", baseline="base", max_tokens=_LONGEST, limit=_SCORED
        )
        state = server.state_dir
    seconds = time.monotonic() - began
    if args.json:
        print_json(_as_json(args.base, result, losses, asked, scores, seconds))
    else:
        _print(args.base, losses, asked, scores, seconds)
    if args.keep or args.state_dir:
        print_note(
            f"kept: maas-client serve --base {args.base} --state-dir {state}, then maas-client chat tuned"
        )
    return 0


def _pull() -> None:
    from maas_client.local import bases

    folder = Settings.load().cache_path()
    if bases.SMOLLM2 not in bases.list_available(folder):
        print_note("0. fetching the base model SmolLM2-135M-Instruct, once")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        bases.pull_smollm2(folder, progress=lambda text: print_note(f"   {text}"))


def _server(args: argparse.Namespace) -> LocalServer:
    from maas_client.local.embed import serve

    kept = args.state_dir or (tempfile.mkdtemp(prefix="maas-demo-") if args.keep else None)
    return serve(base=args.base, state_dir=kept, cache_dir=Settings.load().cache_path())


def _tune(args: argparse.Namespace, client: Client, data: Path) -> tuple[FineTuneResult, _Losses]:
    train, held_out = str(data / "train.jsonl"), str(data / "validation.jsonl")
    recipe = dict(_RECIPES[args.base]) | ({"epochs": args.epochs} if args.epochs else {})
    print_note(f"2. checking and uploading {train}")
    note_resolved_model(_MODEL)
    print_note(f"3. tuning: job of {_MODEL}, for which {args.base} stands in on this machine")
    losses = _Losses()
    # The server is in this program and ends with it.
    stopped = "The demo's server has ended, and the job with it"
    stopped += ": the same command goes on with it." if args.state_dir else "."
    with follow_job(args, interrupt_message=stopped) as shown:

        def told(event: JobEvent) -> None:
            losses.take(event)
            shown.on_event(event)

        try:
            result = client.fine_tune(
                train, model=_MODEL, validation_data=held_out, hyperparameters=recipe,
                on_job=shown.on_job, on_event=told,
            )  # fmt: skip
        except JobFailedError as failed:  # its log goes with the server
            print_note(client.jobs.logs(failed.job)[-2000:] if failed.job else "")
            raise
    return result, losses


def _ask(client: Client, result: FineTuneResult, questions: Path) -> list[_Comparison]:
    """Ask both models, several questions at once: the server joins them between steps."""
    client.deployments.create("base", _MODEL)
    client.deployments.create("tuned", result.job)
    rows = [json.loads(line) for line in questions.read_text("utf-8").splitlines()]

    def both(row: dict[str, Any]) -> _Comparison:
        base, tuned = (_answer(client, name, row["messages"]) for name in ("base", "tuned"))
        return _Comparison(row["messages"][-1]["content"], row.get("expect", []), base, tuned)

    with ThreadPoolExecutor(4) as several:
        return list(several.map(both, rows))


def _answer(client: Client, deployment: str, messages: Sequence[dict[str, str]]) -> str:
    reply = client.chat.complete(deployment, messages, max_tokens=_LONGEST, temperature=0)
    said = " ".join((reply.choices[0].message.content or "").split())
    return "".join(char if char.isprintable() else "?" for char in said)


def _right(asked: Sequence[_Comparison], who: str) -> int:
    return sum(one.is_correct(getattr(one, who)) for one in asked)


def _as_json(
    base: str,
    result: FineTuneResult,
    losses: _Losses,
    asked: Sequence[_Comparison],
    scores: Evaluation,
    seconds: float,
) -> dict[str, Any]:
    return {
        "model": _MODEL,
        "base": base,
        "job": result.job,
        "valid_loss": {"base": losses.base(), "tuned": losses.tuned()},
        "right": {"base": _right(asked, "base"), "tuned": _right(asked, "tuned"), "of": len(asked)},
        "answers": [asdict(one) for one in asked],
        "evaluation": scores,
        "seconds": round(seconds, 1),
    }


def _print(
    base: str, losses: _Losses, asked: Sequence[_Comparison], scores: Evaluation, seconds: float
) -> None:
    from maas_client.cli.evaluate import format_scores

    _print_answers(base, asked)
    print(f"validation loss: {_loss(losses.base())} before, {_loss(losses.tuned())} after")
    right = [_right(asked, who) for who in ("base", "tuned")]
    print(f"answers with the right facts: {right[0]} of {len(asked)} before, {right[1]} after\n")
    print(format_scores(scores))
    print(f"\n{base} stood in for {_MODEL}{_NOISE.get(base, '')}; {seconds:.0f} s in all")


def _print_answers(base: str, asked: Sequence[_Comparison]) -> None:
    heads = (f"{base}, as it is", f"{base}, tuned")
    if sys.stdout.isatty():
        from maas_client.cli import _render

        rows = [(one.question, one.base, one.tuned) for one in asked]
        _render.print_side_by_side(("question", *heads), rows)
        return
    for one in asked:
        print(f"{one.question}\n  {heads[0]}: {one.base}\n  {heads[1]}: {one.tuned}\n")


def _loss(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
