"""Check that ``validate`` handles random input: no exception, no hang, every location inside its line.

python -m tests.fuzz.robustness --count 1000000 --seed 1          mutated lines, many to a file
python -m tests.fuzz.robustness --second-process --count 20000   equal reports with a second process
python -m tests.fuzz.robustness --atheris -- -max_total_time=60   coverage-guided, if atheris is installed
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from maas_client.dataset import file_validator, validate
from maas_client.dataset.scanners import duplicates_process
from maas_client.types.report import FileReport
from tests.fuzz import mutations

_TARGETS = ("azureml", "foundry", "local")
_MODELS = (None, None, "Phi-3-mini-4k-instruct", "Phi-3-medium-4k-instruct", "Phi-4-mini-instruct")
SLOW_S = 10.0
"""Processor time allowed for a file of a few hundred short lines."""


def check(path: Path, data: bytes, *, target: str, model: str | None, content: bool = True) -> None:
    """Validate a file and check its report."""
    path.write_bytes(data)
    start = time.process_time()
    report = validate(path, target=target, model=model, content=content).files[0]  # type: ignore[arg-type] # str
    duration = time.process_time() - start
    assert duration < SLOW_S, f"{duration:.0f} s of processor time for {data!r}"
    check_report(report, data)


def check_report(report: FileReport, data: bytes) -> None:
    """Check the invariants of a report on ``data``."""
    lines = data.split(b"\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    assert report.bytes == len(data)
    assert report.lines == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    assert report.examples <= report.lines
    assert len(report.model_dump_json()) < 1 << 20
    assert report.ok is not any(problem.severity == "error" for problem in report.problems)
    for problem in report.problems:
        assert problem.hint, problem
        assert report.counts[problem.code] >= 1
        if problem.line:
            start = starts[problem.line - 1]
            end = max(starts[problem.line] - 1, start)
            assert start <= problem.offset <= end, (problem, lines[problem.line - 1])
            assert 1 <= problem.column <= end - start + 1, problem


def check_second_process(path: Path, **options: object) -> FileReport:
    """Check that a second process, for a file of any size, makes no difference to the report; return it."""
    report = validate(path, **options)  # type: ignore[arg-type] # options of validate
    results: list[bool] = []

    def check(*args: Any) -> bool:
        results.append(check_with_second_process(*args))
        return results[-1]

    check_with_second_process = file_validator.check_with_second_process
    with (
        patch.object(file_validator, "LARGE_FILE_BYTES", 0),
        patch.object(duplicates_process, "has_idle_core", lambda: True),
        patch.object(file_validator, "check_with_second_process", check),
    ):
        with_process = validate(path, **options)  # type: ignore[arg-type] # options of validate
    assert results == [True]
    assert with_process.model_dump_json() == report.model_dump_json()
    return report.files[0]


def make_file(rng: random.Random) -> bytes:
    """Return a file: mutated lines with various line ends, or random bytes."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randint(0, 300))
    count = rng.choice((1, 5, 50, 300))
    ends = (b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b"")
    lines = b"".join(mutations.make_line(rng) + rng.choice(ends) for _ in range(count))
    return rng.choice((b"", b"", b"", b"\xef\xbb\xbf", b"\xff\xfe")) + lines


def run(count: int, seed: int) -> int:
    """Validate files until ``count`` lines were validated; return their number."""
    rng = random.Random(seed)
    validated = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fuzz.jsonl")
        while validated < count:
            data = make_file(rng)
            check(path, data, target=rng.choice(_TARGETS), model=rng.choice(_MODELS))
            validated += data.count(b"\n") + 1
    return validated


def run_second_process(count: int, seed: int) -> int:
    """Validate files of some thousand lines, some of them edited, with and without a second process."""
    rng = random.Random(seed)
    validated = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fuzz.jsonl")
        while validated < count:
            lines = [mutations.make_line(rng) for _ in range(2000)]
            lines += [
                line.replace(b"e", b"a", rng.randint(0, 2)) for line in rng.sample(lines, 500)
            ]
            path.write_bytes(rng.choice((b"\n", b"\r\n")).join(lines))
            check_second_process(path, target=rng.choice(_TARGETS), model=rng.choice(_MODELS))
            validated += len(lines)
    return validated


def run_atheris(argv: list[str]) -> None:
    """Validate files that atheris generates."""
    import atheris  # type: ignore[import-not-found] # optional

    folder = tempfile.mkdtemp()
    path = Path(folder, "fuzz.jsonl")

    def validate_one(data: bytes) -> None:
        check(path, data, target="azureml", model=None)

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *argv], validate_one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--second-process", action="store_true")
    parser.add_argument("--atheris", action="store_true")
    args, rest = parser.parse_known_args()
    if args.atheris:
        run_atheris([argument for argument in rest if argument != "--"])
        return
    start = time.monotonic()
    validated = (run_second_process if args.second_process else run)(args.count, args.seed)
    print(f"{validated:,} lines validated in {time.monotonic() - start:.0f} s without an exception")


if __name__ == "__main__":
    main()
