"""Check that the fast path, the full rules and the JSON Schema agree on mutated lines.

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
from maas_client.dataset.rules.chat import LineValidator
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.rules.fast_path import FastPath
from tests.fuzz import mutations
from tests.unit.dataset.corpus import load_schema

_MESSAGES = (
    b'{"role": "system", "content": "a"}, {"role": "user", "content": "b"}, '
    b'{"role": "assistant", "content": "c"}'
)
PREVIOUS_LINES = [b'{"messages": [%b]}' % _MESSAGES, b'{"messages": [%b]}' % _MESSAGES[36:], b"{}"]
"""Lines of the previous block. The fast path expects the next block to look like the last one."""


class Disagreement(AssertionError):
    """The fast path, the rules and the schema do not agree about a line."""


class Comparison:
    """The fast path, the rules and the schema for one target and model."""

    def __init__(self, target: str = "azureml", model: str | None = None) -> None:
        from jsonschema import Draft202012Validator

        context = build_context(target, model)
        self.fast_path = FastPath(context)
        self.line_validator = LineValidator(context)
        self.schema = Draft202012Validator(load_schema("chat_line"))
        self.counts: Counter[str] = Counter()
        self.rng = random.Random(0)

    def compare(self, data: bytes) -> None:
        """Raise ``Disagreement`` if they do not agree about a line."""
        checked = self.line_validator.validate(make_line(1, 0, data))
        self.fast_path.partition([self.rng.choice(PREVIOUS_LINES)])
        result = self.fast_path.partition([data])
        if list(result.accepted):
            self.counts["accepted by the fast path"] += 1
            codes = [issue.code for issue in checked.issues if issue.code != "CHAT_SYSTEM_MERGED"]
            if checked.row is None or codes or checked.json_errors:
                raise Disagreement(f"accepted, but {codes or checked.json_errors}: {data!r}")
            if list(result.rows) != [checked.row]:
                raise Disagreement(f"accepted as a different row: {data!r}")
        document = checked.document
        if document is None or document.errors:
            self.counts["not JSON"] += 1
            return
        is_valid = self.schema.is_valid(document.value)
        codes = [issue.code for issue in checked.issues if is_in_schema(issue)]
        self.counts["valid by the schema" if is_valid else "invalid by the schema"] += 1
        if is_valid == bool(codes):
            raise Disagreement(f"valid by the schema: {is_valid}, by the rules: {codes}: {data!r}")


def is_in_schema(issue: Issue) -> bool:
    """Return whether the schema can express the rule of an issue."""
    return not (get_code(issue.code).not_in_schema or issue.detail.startswith("used twice"))


def run(count: int, seed: int, target: str = "azureml", model: str | None = None) -> dict[str, Any]:
    """Compare ``count`` lines; return the number of lines of each kind."""
    rng = random.Random(seed)
    comparison = Comparison(target, model)
    for _ in range(count):
        comparison.compare(mutations.make_line(rng))
    return dict(comparison.counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", default="azureml")
    parser.add_argument("--model")
    args = parser.parse_args()
    start = time.monotonic()
    counts = run(args.count, args.seed, args.target, args.model)
    print(f"{args.count:,} lines agree in {time.monotonic() - start:.0f} s: {counts}")


if __name__ == "__main__":
    main()
