"""How far a reader travels through the code of one call: ``python -m tests.package.test_call_paths``.

The figures are those of CONTRIBUTING.md. A file is entered when a function of it is called or continued; the
path changes file when that function is in another file than the one before. The first call of a program is
left out, because it also loads the catalog, the rules and the HTTP client.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import maas_client as maas
from maas_client.local import serve

PACKAGE = Path(maas.__file__).parent
CONTRIBUTING = PACKAGE.parent / "CONTRIBUTING.md"
MODEL = "Phi-4-mini-instruct"
ROW = {"messages": [{"role": "user", "content": "How much is the Gust?"},
                    {"role": "assistant", "content": "The Gust costs 49 euros."}]}  # fmt: skip


class CallPath(NamedTuple):
    files: int
    changes: int


def measure(call: Callable[[], Any]) -> CallPath:
    entered: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            entered.append(frame.f_code.co_filename)

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(previous)
    changes = sum(
        previous_file != next_file for previous_file, next_file in itertools.pairwise(entered)
    )
    return CallPath(len(set(entered)), changes)


def measure_all(folder: Path) -> dict[str, CallPath]:
    """Return the paths of one line through ``validate``, and of ``jobs.create`` with an uploaded data set."""
    path = folder / "train.jsonl"
    path.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    maas.validate(path, model=MODEL)
    paths = {"maas.validate": measure(lambda: maas.validate(path, model=MODEL))}
    path.write_text(path.read_text("utf-8") * 10, encoding="utf-8")  # as many as a job needs
    with serve(engine="instant") as server, server.client() as client:
        dataset = client.datasets.upload(path, model=MODEL)
        client.jobs.create(MODEL, dataset, name="first")
        paths["client.jobs.create"] = measure(lambda: client.jobs.create(MODEL, dataset))
    return paths


def test_contributing_states_the_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(
        sys.modules, "opentelemetry.trace", raising=False
    )  # another test's: no spans
    text = CONTRIBUTING.read_text("utf-8")
    for call, path in measure_all(tmp_path).items():
        figures = r"enters\s+(\d+)\s+files\s+and\s+changes\s+file\s+(\d+)\s+times"
        stated = re.search(f"`{re.escape(call)}\\(.*?{figures}", text, re.DOTALL)
        assert stated
        assert path.files <= int(stated[1])
        assert path.changes <= int(stated[2])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for call_name, path in measure_all(Path(name)).items():
            print(f"{call_name} enters {path.files} files and changes file {path.changes} times")
