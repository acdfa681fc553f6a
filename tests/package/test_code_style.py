"""The shape of the code: short files, telling names, reasons beside what is switched off."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import maas_client

ROOT = Path(maas_client.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
ROOMS = [ROOT, *(ROOT.parent / name for name in ("tests", "examples", "benchmarks"))]


def every_file() -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted(room.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_longer_than_600_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 600


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc", "core"}
    assert not [path for path in every_file() if path.stem.strip("_") in empty]


def test_nothing_is_left_for_later() -> None:
    later = re.compile(r"#.*\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert not [p for p in every_file() if later.search(p.read_text("utf-8"))]


def test_what_is_switched_off_says_why() -> None:
    silent = re.compile(
        r"#\s*(type:\s*ignore(\[[^\]]*\])?|noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?)\s*$"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if silent.search(line)
    ]
    assert not found


def test_every_module_says_what_it_is() -> None:
    bare = [p for p in SOURCES if p.stat().st_size and not p.read_text("utf-8").startswith('"""')]
    assert not bare


def nouns() -> list[type]:
    from maas_client import _client

    names = ("Datasets", "Jobs", "Models", "Deployments", "Chat")
    return [getattr(_client, prefix + name) for name in names for prefix in ("", "Async")]


@pytest.mark.parametrize("noun", nouns(), ids=lambda n: n.__name__)
def test_every_public_verb_is_documented(noun: type) -> None:
    verbs = [name for name in vars(noun) if not name.startswith("_")]
    assert verbs
    for verb in verbs:
        method = getattr(noun, verb)
        assert inspect.getdoc(method), f"{noun.__name__}.{verb} says nothing"
        assert next(iter(inspect.signature(method).parameters)) == "self"


@pytest.mark.parametrize("name", ["Datasets", "Jobs", "Models", "Deployments", "Chat"])
def test_both_clients_have_the_same_verbs_and_signatures(name: str) -> None:
    from maas_client import _client

    here, there = getattr(_client, name), getattr(_client, f"Async{name}")
    verbs = {n for n in vars(here) if not n.startswith("_")}
    assert verbs == {n for n in vars(there) if not n.startswith("_")}
    for verb in verbs:
        one, other = getattr(here, verb), getattr(there, verb)
        # What the sync one returns at once, the async one yields: only the names of the types differ.
        assert inspect.signature(one).parameters == inspect.signature(other).parameters
        assert one.__doc__ == other.__doc__
