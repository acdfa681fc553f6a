"""The fast acceptor, the full rules and the JSON Schema, held together on mutated lines.

python -m tests.fuzz.agreement --count 200000 --seed 1
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from typing import Any

from maas_client.dataset.codes import get_code
from maas_client.dataset.issues import Issue
from maas_client.dataset.parsing.lines import make_line
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.rules.fast_path import FastPath
from maas_client.dataset.rules.line_check import LineValidator
from tests.fuzz import mutations
from tests.unit.dataset.corpus import load_schema

_TALK = (
    b'{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, '
    b'{"role": "assistant", "content": "c"}'
)
PRIMERS = [b'{"messages": [%b]}' % _TALK, b'{"messages": [%b]}' % _TALK[36:], b"{}"]
"""What the last block looked like, for the acceptor's expectations."""


class Disagreement(AssertionError):
    """Two of the three say different things about one line."""


class Judges:
    """The three, for one target and model."""

    def __init__(self, target: str = "azureml", model: str | None = None) -> None:
        from jsonschema import Draft202012Validator

        book = build_context(target, model)
        self.acceptor = FastPath(book)
        self.checker = LineValidator(book)
        self.schema = Draft202012Validator(load_schema("chat_line"))
        self.seen: Counter[str] = Counter()
        self.rng = random.Random(0)

    def compare(self, data: bytes) -> None:
        """Raise ``Disagreement`` if the three do not agree about a line."""
        verdict = self.checker.validate(make_line(1, 0, data))
        self.acceptor.split([self.rng.choice(PRIMERS)])  # so that a shape is expected
        taken = self.acceptor.split([data])
        if list(taken.accepted):
            self.seen["accepted fast"] += 1
            told = [fault.code for fault in verdict.issues if fault.code != "CHAT_SYSTEM_MERGED"]
            if verdict.row is None or told or verdict.json_errors:
                raise Disagreement(f"accepted, but {told or verdict.json_errors}: {data!r}")
            if list(taken.rows) != [verdict.row]:
                raise Disagreement(f"accepted as another row: {data!r}")
        document = verdict.document
        if document is None or document.errors:
            self.seen["not JSON"] += 1
            return
        lawful = self.schema.is_valid(document.value)
        broken = [fault.code for fault in verdict.issues if is_law(fault)]
        self.seen["lawful" if lawful else "unlawful"] += 1
        if lawful == bool(broken):
            raise Disagreement(f"the schema says {lawful}, the rules {broken}: {data!r}")


def is_law(fault: Issue) -> bool:
    """Return whether a schema can say this."""
    return not (get_code(fault.code).not_in_schema or fault.detail.startswith("used twice"))


def run(count: int, seed: int, target: str = "azureml", model: str | None = None) -> dict[str, Any]:
    """Compare ``count`` lines; return what kinds there were."""
    rng = random.Random(seed)
    judges = Judges(target, model)
    for _ in range(count):
        judges.compare(mutations.line(rng))
    return dict(judges.seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", default="azureml")
    parser.add_argument("--model")
    args = parser.parse_args()
    start = time.monotonic()
    seen = run(args.count, args.seed, args.target, args.model)
    print(f"{args.count:,} lines agree in {time.monotonic() - start:.0f} s: {seen}")


if __name__ == "__main__":
    main()
