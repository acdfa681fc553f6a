"""Validate a file before it costs anything. Needs no server, no network and no torch.

python examples/01_validate.py [FILE]
"""

import sys
from pathlib import Path

import maas_client as maas

DATA = Path(__file__).parent / "data"


def main(path: str) -> int:
    report = maas.validate(path, model="Phi-4-mini-instruct", validation=DATA / "validation.jsonl")
    for file in report.files:
        print(f"{file.path}: {file.examples} examples, {len(file.problems)} problems")
        for problem in file.problems:
            print(f"  line {problem.line}: {problem.message} [{problem.code}] {problem.hint}")
    return 0 if report.ok else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else str(DATA / "train.jsonl")))
