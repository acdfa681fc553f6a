"""``validate`` on rubbish: no exception, no hang, every place inside the line it names.

python -m tests.fuzz.robustness --count 1000000 --seed 1          mutated lines, many to a file
python -m tests.fuzz.robustness --atheris -- -max_total_time=60   coverage-guided, if atheris is there
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from maas_client.dataset import validate
from maas_client.types.report import FileReport
from tests.fuzz import mutations

_TARGETS = ("azureml", "foundry", "local")
_MODELS = (None, None, "Phi-3-mini-4k-instruct", "Phi-3-medium-4k-instruct", "Phi-4-mini-instruct")
SLOW_S = 10.0
"""For a file of some hundred short lines."""


def check(path: Path, data: bytes, *, target: str, model: str | None, content: bool = True) -> None:
    """Validate some bytes and look at the report."""
    path.write_bytes(data)
    start = time.process_time()
    report = validate(path, target=target, model=model, content=content).files[0]  # type: ignore[arg-type] # str
    took = time.process_time() - start
    assert took < SLOW_S, f"{took:.0f} s of processor time for {data!r}"
    look_at(report, data)


def look_at(report: FileReport, data: bytes) -> None:
    """Check what must hold for any report on ``data``."""
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


def noise(rng: random.Random) -> bytes:
    """Return a file: mutated lines with all sorts of ends, or bytes at random."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randint(0, 300))
    count = rng.choice((1, 5, 50, 300))
    ends = (b"\n", b"\n", b"\n", b"\r\n", b"\n\n", b"")
    made = b"".join(mutations.line(rng) + rng.choice(ends) for _ in range(count))
    return rng.choice((b"", b"", b"", b"\xef\xbb\xbf", b"\xff\xfe")) + made


def run(count: int, seed: int) -> int:
    """Validate files until ``count`` lines were judged; return how many were."""
    rng = random.Random(seed)
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fuzz.jsonl")
        while done < count:
            data = noise(rng)
            check(path, data, target=rng.choice(_TARGETS), model=rng.choice(_MODELS))
            done += data.count(b"\n") + 1
    return done


def guided(argv: list[str]) -> None:
    """Let atheris choose the bytes."""
    import atheris  # type: ignore[import-not-found] # optional, for those who fuzz

    folder = tempfile.mkdtemp()
    path = Path(folder, "fuzz.jsonl")

    def one(data: bytes) -> None:
        check(path, data, target="azureml", model=None)

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *argv], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    args, rest = parser.parse_known_args()
    if args.atheris:
        guided([each for each in rest if each != "--"])
        return
    start = time.monotonic()
    done = run(args.count, args.seed)
    print(f"{done:,} lines judged in {time.monotonic() - start:.0f} s, none of them raised")


if __name__ == "__main__":
    main()
