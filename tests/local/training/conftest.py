"""Fixtures: a tiny base, its tokenizer, chat rows and examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.chat import TEMPLATES  # noqa: E402 - after the skip
from maas_client.local import bases  # noqa: E402
from maas_client.local.training import load_base  # noqa: E402
from maas_client.local.training.data import Example, tokenize_rows  # noqa: E402
from tests.local.training.rows import make_rows  # noqa: E402

# Warnings of dependencies that these tests cannot fix.
QUIET = [
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore:.*gradient_checkpointing.*",
    "ignore:.*lr_scheduler.*",
    "ignore:Using a target size",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for text in QUIET:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> bases.BaseWeights:
    return bases.resolve_base("Phi-3-mini-4k-instruct", "tiny", tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="session")
def tokenizer(base: bases.BaseWeights) -> Any:
    return load_base.load_tokenizer(base.folder)


@pytest.fixture(scope="session")
def examples(tokenizer: Any) -> list[Example]:
    examples, counts = tokenize_rows(
        enumerate(make_rows(12), 1), tokenizer, TEMPLATES["phi3"], 4096
    )
    assert len(examples) == 12
    assert not counts.dropped
    return examples


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., str]:
    def write(rows: list[dict[str, Any]], name: str = "train.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write
