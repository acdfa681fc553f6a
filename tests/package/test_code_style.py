"""The style of the code: file sizes, module names, docstrings, and reasons for switched-off checks."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import maas_client

PACKAGE = Path(maas_client.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = [PACKAGE, *(PACKAGE.parent / name for name in ("tests", "examples", "benchmarks"))]

MAX_LINES = 600
LARGE_FILES: dict[str, str] = {}
"""File above ``MAX_LINES`` to the reason why it is one idea and stays together."""


def python_files() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted(folder.rglob("*.py"))


def test_large_files_have_a_reason() -> None:
    large = {
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        if len(path.read_text("utf-8").splitlines()) > MAX_LINES
    }
    assert large == set(LARGE_FILES), "split it by idea, or add the reason to LARGE_FILES"


def test_module_names_are_specific() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc", "core"}
    assert not [path for path in python_files() if path.stem.strip("_") in vague]


def test_no_todo_comments() -> None:
    todo = re.compile(r"#.*\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert not [path for path in python_files() if todo.search(path.read_text("utf-8"))]


def test_suppressed_checks_have_a_reason() -> None:
    bare = re.compile(r"#\s*(type:\s*ignore(\[[^\]]*\])?|noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?)\s*$")
    places = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if bare.search(line)
    ]
    assert not places


def test_every_module_has_a_docstring() -> None:
    missing = [
        path
        for path in SOURCES
        if path.stat().st_size and not path.read_text("utf-8").startswith('"""')
    ]
    assert not missing


RESOURCES = ("Datasets", "Jobs", "Models", "Deployments", "Chat", "Sessions")


def resource_classes() -> list[type]:
    from maas_client import _client

    return [getattr(_client, prefix + name) for name in RESOURCES for prefix in ("", "Async")]


@pytest.mark.parametrize("resource", resource_classes(), ids=lambda each: each.__name__)
def test_every_public_method_is_documented(resource: type) -> None:
    names = [name for name in vars(resource) if not name.startswith("_")]
    assert names
    for name in names:
        method = getattr(resource, name)
        assert inspect.getdoc(method), f"{resource.__name__}.{name} has no docstring"
        assert next(iter(inspect.signature(method).parameters)) == "self"


@pytest.mark.parametrize("name", RESOURCES)
def test_both_clients_have_the_same_methods_and_signatures(name: str) -> None:
    from maas_client import _client

    blocking, asynchronous = getattr(_client, name), getattr(_client, f"Async{name}")
    methods = {method for method in vars(blocking) if not method.startswith("_")}
    assert methods == {method for method in vars(asynchronous) if not method.startswith("_")}
    for method in methods:
        first, second = getattr(blocking, method), getattr(asynchronous, method)
        # The return types differ: what one returns, the other awaits or yields.
        assert inspect.signature(first).parameters == inspect.signature(second).parameters
        assert first.__doc__ == second.__doc__


def test_no_check_is_an_assert() -> None:
    """``python -O`` removes assert statements, so they may only tell a type checker what is known already."""
    checks = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Assert):
                continue
            is_none = (
                isinstance(node.test, ast.Compare)
                and isinstance(node.test.ops[0], ast.IsNot)
                and isinstance(node.test.comparators[0], ast.Constant)
                and node.test.comparators[0].value is None
            )
            is_type = (
                isinstance(node.test, ast.Call)
                and isinstance(node.test.func, ast.Name)
                and node.test.func.id == "isinstance"
            )
            if not (is_none or is_type):
                checks.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert checks == []
