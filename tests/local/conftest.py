"""Fixtures and filters that the tests of training, answering and export share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maas_client.local import bases

# Warnings of dependencies that these tests cannot fix.
QUIET = {
    "": ["ignore::DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"],
    "export": ["ignore::UserWarning:peft"],
    "generate": ["ignore::UserWarning:peft"],
    "training": [
        "ignore:.*gradient_checkpointing.*",
        "ignore:.*lr_scheduler.*",
        "ignore:Using a target size",
    ],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for folder, texts in QUIET.items():
        start = os.path.join(here / folder, "")
        for item in items:
            if str(item.path).startswith(start):
                for text in texts:
                    item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch = sys.modules.get("torch")  # some tests need none
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> bases.BaseWeights:
    return bases.resolve_base("Phi-3-mini-4k-instruct", "tiny", tmp_path_factory.mktemp("bases"))
