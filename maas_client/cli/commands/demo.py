"""``maas-client demo``: run the complete workflow on this machine and compare base and tuned answers.

Only the base weights are downloaded, and only they stay on disk (``--keep`` keeps the server's state too).
The server runs in this process, training and answering in child processes. All of them end with the demo.
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

from maas_client._files.package_data import example_data_dir
from maas_client._settings import Settings
from maas_client.cli._follow import follow_job
from maas_client.cli._job_options import note_resolved_model
from maas_client.cli._messages import command
from maas_client.cli._output import print_json, print_note
from maas_client.cli._parser import positive_int
from maas_client.errors import ConfigError, JobFailedError

if TYPE_CHECKING:
    from maas_client import Client, FineTuneResult, JobEvent
    from maas_client.local.embedded_server import LocalServer
    from maas_client.types.evaluation import Evaluation

_MODEL = "Phi-3-mini-4k-instruct"
_HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    # Rank and scale are the service's (r 8, alpha 128). The others were measured: 3e-4 for three epochs learns
    # the style and half of the facts, 1e-3 for two epochs most of the facts. Of 92 rows, batches of 4 learn 7
    # of the 12 facts, batches of 2 learn 9; one epoch of all rows teaches 3 to 5.
    "smollm2-135m": {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3},
    "tiny": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
}
"""Base to hyperparameters."""
_TRAINING_BUDGET_S = 150
"""Where two epochs of all rows take longer, the demo trains on the rows with the facts that it asks for."""
_ROWS_PER_FACT = 8
_PARALLEL_REQUESTS = 8
_EVALUATED_ROWS = 12
_MAX_TOKENS = 64
"""Longest answer in tokens; the answers in the training data are shorter."""
_BASE_NOTES = {
    "tiny": " (tiny has random weights: its loss falls, but its answers are random text and not compared)"
}


@dataclass(slots=True)
class _Losses:
    """Validation losses by step; step 0 is the base model."""

    by_step: dict[int, float] = field(default_factory=dict)

    def record(self, event: JobEvent) -> None:
        if event.step is not None and "valid_loss" in event.metrics:
            self.by_step[event.step] = event.metrics["valid_loss"]

    def base(self) -> float | None:
        return self.by_step.get(0)

    def tuned(self) -> float | None:
        return self.by_step[max(self.by_step)] if self.by_step and max(self.by_step) else None


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A held-out question, the facts of a correct answer, and both models' answers."""

    question: str
    expected: list[str]
    base: str
    tuned: str

    def is_correct(self, answer: str) -> bool:
        return _states(answer, self.expected)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--base", choices=tuple(_HYPERPARAMETERS), default="smollm2-135m",
                        help="base model (default: smollm2-135m); tiny takes seconds but answers with "
                        "random text")  # fmt: skip
    parser.add_argument("--epochs", type=positive_int, metavar="N",
                        help="passes over the data (default: 2; with tiny: 1)")  # fmt: skip
    parser.add_argument("--state-dir", metavar="DIR",
                        help="the server's state directory (default: a new one)")  # fmt: skip
    parser.add_argument("--keep", action="store_true",
                        help="keep the server's state and the tuned model")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Pull, serve, validate, upload, train, deploy and chat; print both models' answers."""
    start = time.monotonic()
    if args.url or args.backend not in (None, "local"):
        raise ConfigError(
            "the demo starts a server of its own and runs on this machine only",
            hint="Leave out --url and --backend.",
        )
    data = example_data_dir()
    if args.base == "smollm2-135m":
        _pull()
    with (
        _serve(args) as server,
        server.client() as client,
        tempfile.TemporaryDirectory(prefix="maas-demo-data-") as folder,
    ):
        print_note(f"1. the local server answers at {server.url}; nothing is sent to Azure")
        training = _choose_rows(args, data, Path(folder))
        result, losses = _tune(args, client, training, data / "validation.jsonl")
        print_note("4. deploying base and tuned model, and asking both the same questions, which "
                   "are not in the training data")  # fmt: skip
        comparisons = _compare(client, result, _read_questions(data))
        print_note(f"5. scoring both on {_EVALUATED_ROWS} held-out chats")
        evaluation = client.evaluate(
            "tuned",
            data / "validation.jsonl",
            baseline="base",
            max_tokens=_MAX_TOKENS,
            limit=_EVALUATED_ROWS,
        )
        state_dir = server.state_dir
    seconds = time.monotonic() - start
    if args.json:
        print_json(_as_json(args.base, result, losses, comparisons, evaluation, seconds))
    else:
        _print_results(args.base, losses, comparisons, evaluation, seconds)
    if args.keep or args.state_dir:
        print_note(
            f"state kept in {state_dir}. To chat with the tuned model: "
            f"{command('serve', '--base', args.base, '--state-dir', str(state_dir))}, then "
            f"{command('chat', 'tuned')}"
        )
    else:
        print_note(
            "next, with chats of your own: maas-client fine-tune FILE --model Phi-3-mini --deploy NAME"
        )
    return 0


def _pull() -> None:
    from maas_client.local import bases

    folder = Settings.load().cache_path()
    if bases.SMOLLM2 not in bases.list_available(folder):
        print_note("0. downloading the base model SmolLM2-135M-Instruct, once")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        bases.pull_smollm2(folder, progress=lambda text: print_note(f"   {text}"))


def _serve(args: argparse.Namespace) -> LocalServer:
    from maas_client.local.embedded_server import serve

    state_dir = args.state_dir or (tempfile.mkdtemp(prefix="maas-demo-") if args.keep else None)
    return serve(base=args.base, state_dir=state_dir, cache_dir=Settings.load().cache_path())


def _choose_rows(args: argparse.Namespace, data: Path, folder: Path) -> Path:
    """Return the training file: all rows, or where they take too long here, those with the facts asked for.

    A demo that can be resumed uses all rows: another measurement must not lead to another job.
    """
    path = data / "train.jsonl"
    if args.base == "tiny" or args.epochs or args.state_dir:
        return path
    print_note("   measuring this machine (about 15 seconds)")
    epochs = _HYPERPARAMETERS[args.base]["epochs"]
    seconds = _estimate_epoch_s(args.base, path)
    if seconds is None or epochs * seconds <= _TRAINING_BUDGET_S:
        return path
    rows = path.read_text("utf-8").splitlines(keepends=True)
    chosen = _rows_with_facts(rows, [row["expect"] for row in _read_questions(data)])
    share = len(chosen) / len(rows)
    print_note(
        f"   training on all {len(rows)} chats would take {epochs * seconds:.0f} s on this machine; the demo "
        f"uses the {len(chosen)} of them that state what it asks for: {epochs * seconds * share:.0f} s"
    )
    target = folder / path.name
    target.write_text("".join(chosen), encoding="utf-8")
    return target


def _estimate_epoch_s(base: str, path: Path) -> float | None:
    """Return the seconds of an epoch on this machine, from a few measured steps; None if it is not known."""
    from maas_client.cli.commands.plan import row_stats
    from maas_client.local import bases
    from maas_client.local.machine import hardware, model_architecture
    from maas_client.local.planning.plan import plan

    weights = bases.resolve_base(_MODEL, base, Settings.load().cache_path())
    estimate = plan(
        base,
        model_architecture.load_architecture(Path(weights.folder)),
        row_stats(str(path), _MODEL),
        hardware.detect_hardware(),
        batch_size=_HYPERPARAMETERS[base]["batch_size"],
        methods=("LoRA",),
    )
    return estimate.find("LoRA").epoch_s


def _rows_with_facts(rows: Sequence[str], facts: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows whose answer states all of one of the ``facts``, at most ``_ROWS_PER_FACT`` of each."""
    counts = [0] * len(facts)
    chosen = []
    for row in rows:
        answer = json.loads(row)["messages"][-1]["content"]
        stated = [i for i, expected in enumerate(facts) if _states(answer, expected)]
        if any(counts[i] < _ROWS_PER_FACT for i in stated):
            chosen.append(row)
            for i in stated:
                counts[i] += 1
    return chosen


def _states(answer: str, facts: Sequence[str]) -> bool:
    return all(fact.lower() in answer.lower() for fact in facts)


def _read_questions(data: Path) -> list[dict[str, Any]]:
    lines = (data / "questions.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _tune(
    args: argparse.Namespace, client: Client, training: Path, validation: Path
) -> tuple[FineTuneResult, _Losses]:
    hyperparameters = dict(_HYPERPARAMETERS[args.base])
    if args.epochs:
        hyperparameters["epochs"] = args.epochs
    print_note(f"2. validating and uploading {training}")
    note_resolved_model(_MODEL)
    print_note(f"3. training a job for {_MODEL}; on this machine {args.base} stands in for it")
    losses = _Losses()
    # The server runs in this process and ends with it.
    interrupt_message = "The demo's server has stopped, and the job with it"
    interrupt_message += ": the same command resumes it." if args.state_dir else "."
    with follow_job(args, interrupt_message=interrupt_message) as observer:

        def on_event(event: JobEvent) -> None:
            losses.record(event)
            observer.on_event(event)

        try:
            result = client.fine_tune(
                training, model=_MODEL, validation_data=validation, hyperparameters=hyperparameters,
                on_job=observer.on_job, on_event=on_event,
            )  # fmt: skip
        except JobFailedError as error:  # print its log, which is deleted with the server
            print_note(client.jobs.logs(error.job)[-2000:] if error.job else "")
            raise
    return result, losses


def _compare(
    client: Client, result: FineTuneResult, questions: Sequence[dict[str, Any]]
) -> list[_Comparison]:
    """Ask both models the questions, several at once, which the server batches."""
    from maas_client._transport.http import shared_notices

    client.deployments.create("base", _MODEL)
    client.deployments.create("tuned", result.job)
    requests = [(name, row["messages"]) for name in ("tuned", "base") for row in questions]
    answers: list[str] = []
    givers: dict[str, object] = {}

    def ask(request: tuple[str, Any]) -> str:
        with shared_notices(givers):
            return _answer(client, *request)

    with ThreadPoolExecutor(_PARALLEL_REQUESTS) as executor:
        for answer in executor.map(ask, requests):
            answers.append(answer)
            if len(answers) % _PARALLEL_REQUESTS == 0:
                print_note(f"   {len(answers)} of {len(requests)} answers")
    tuned, base = answers[: len(questions)], answers[len(questions) :]
    return [
        _Comparison(row["messages"][-1]["content"], row.get("expect", []), *pair)
        for row, *pair in zip(questions, base, tuned, strict=True)
    ]


def _answer(client: Client, deployment: str, messages: Sequence[dict[str, str]]) -> str:
    reply = client.chat.complete(deployment, messages, max_tokens=_MAX_TOKENS, temperature=0)
    text = " ".join((reply.choices[0].message.content or "").split())
    return "".join(char if char.isprintable() else "?" for char in text)


def _count_correct(comparisons: Sequence[_Comparison], model: str) -> int:
    return sum(each.is_correct(getattr(each, model)) for each in comparisons)


def _as_json(
    base: str,
    result: FineTuneResult,
    losses: _Losses,
    comparisons: Sequence[_Comparison],
    evaluation: Evaluation,
    seconds: float,
) -> dict[str, Any]:
    return {
        "model": _MODEL,
        "base": base,
        "job": result.job,
        "valid_loss": {"base": losses.base(), "tuned": losses.tuned()},
        "right": {
            "base": _count_correct(comparisons, "base"),
            "tuned": _count_correct(comparisons, "tuned"),
            "of": len(comparisons),
        },
        "answers": [asdict(each) for each in comparisons],
        "evaluation": evaluation,
        "seconds": round(seconds, 1),
    }


def _print_results(
    base: str,
    losses: _Losses,
    comparisons: Sequence[_Comparison],
    evaluation: Evaluation,
    seconds: float,
) -> None:
    from maas_client.cli.commands.evaluate import format_scores

    learns_facts = base not in _BASE_NOTES
    if learns_facts:
        _print_answers(base, comparisons)
    print(
        f"validation loss: {_format_loss(losses.base())} before, {_format_loss(losses.tuned())} after"
    )
    if learns_facts:
        before, after = (_count_correct(comparisons, model) for model in ("base", "tuned"))
        print(
            f"answers with the right facts: {before} of {len(comparisons)} before, {after} after\n"
        )
        print(format_scores(evaluation))
    print(f"\n{base} stood in for {_MODEL}{_BASE_NOTES.get(base, '')}; {seconds:.0f} s in total")


def _print_answers(base: str, comparisons: Sequence[_Comparison]) -> None:
    headers = (f"{base}, base", f"{base}, tuned")
    if sys.stdout.isatty():
        from maas_client.cli import _tables

        rows = [(each.question, each.base, each.tuned) for each in comparisons]
        _tables.print_side_by_side(("question", *headers), rows)
        return
    for each in comparisons:
        print(f"{each.question}\n  {headers[0]}: {each.base}\n  {headers[1]}: {each.tuned}\n")


def _format_loss(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
