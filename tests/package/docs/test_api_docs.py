"""The public API is documented: every parameter, every field, every result, with an example."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import maas_client as maas
from maas_client import _client, errors, local, types
from maas_client.local.control import Control
from maas_client.local.embedded_server import LocalServer
from maas_client.local.recorded_requests import RecordedRequests

_ENTRY = re.compile(r"^    \*{0,2}(\w+)(?: \([^)]*\))?:", re.MULTILINE)
RESOURCES = [
    getattr(_client, prefix + name)
    for prefix in ("", "Async")
    for name in ("Datasets", "Jobs", "Models", "Deployments", "Chat", "Sessions")
]


def section(value: object, title: str) -> str:
    """Return a section of a Google-style docstring, without its title; empty if there is none."""
    text = inspect.getdoc(value) or ""
    match = re.search(rf"^{title}:\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
    return match.group(1) if match else ""


def described(value: object, *titles: str) -> set[str]:
    return {name for title in titles for name in _ENTRY.findall(section(value, title))}


def public_members(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, member in vars(cls).items():
        function = member.__func__ if isinstance(member, classmethod) else member
        if inspect.isfunction(function) and not name.startswith("_"):
            yield f"{cls.__name__}.{name}", function


def public_callables() -> dict[str, Callable[..., Any]]:
    classes = [*RESOURCES, maas.Client, maas.AsyncClient, LocalServer, maas.ValidationReport]
    classes += [Control, RecordedRequests]
    members: dict[str, Callable[..., Any]] = {"validate": maas.validate, "local.serve": local.serve}
    for cls in classes:
        members |= dict(public_members(cls))
    for name in ("azureml", "foundry", "local", "from_env"):
        members[f"Client.{name}"] = getattr(maas.Client, name)
    return members


CALLABLES = public_callables()
VERBS = [name for name in CALLABLES if name.partition(".")[0] in {r.__name__ for r in RESOURCES}]


@pytest.mark.parametrize("name", CALLABLES)
def test_every_parameter_is_described(name: str) -> None:
    function = CALLABLES[name]
    parameters = set(inspect.signature(function).parameters) - {"self", "cls"}
    assert described(function, "Args") >= parameters, f"{name} does not describe some"


@pytest.mark.parametrize("name", CALLABLES)
def test_every_default_is_stated(name: str) -> None:
    function = CALLABLES[name]
    entries = re.split(_ENTRY, section(function, "Args"))
    texts = dict(zip(entries[1::2], entries[2::2], strict=True))
    optional = (
        p.name for p in inspect.signature(function).parameters.values() if p.default is not p.empty
    )
    says_default = re.compile(r"[Dd]efault|[Ll]eft\s+out|None:|As for ``")
    assert [option for option in optional if not says_default.search(texts[option])] == []


@pytest.mark.parametrize("name", CALLABLES)
def test_no_unknown_parameter_is_described(name: str) -> None:
    function = CALLABLES[name]
    parameters = set(inspect.signature(function).parameters)
    if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
        assert described(function, "Args") <= parameters


@pytest.mark.parametrize("name", [*VERBS, "Client.fine_tune", "Client.evaluate", "validate"])
def test_every_verb_describes_its_result_and_has_an_example(name: str) -> None:
    function = CALLABLES[name]
    returns = str(inspect.signature(function).return_annotation)
    title = "Yields" if "Generator[" in returns else "Returns"
    assert section(function, title) or returns == "None", f"{name} has no section {title}"
    assert ">>>" in section(function, "Example"), f"{name} has no example"


@pytest.mark.parametrize("resource", [*RESOURCES, maas.Client, maas.AsyncClient])
def test_methods_have_the_names_they_are_called_by(resource: type) -> None:
    for name, method in vars(resource).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert method.__name__ == name
            assert method.__qualname__ == f"{resource.__qualname__}.{name}"


@pytest.mark.parametrize(
    "verb", [_client.Jobs.create, _client.AsyncJobs.create, maas.Client.fine_tune]
)
def test_shared_options_are_parameters_in_the_help(verb: Callable[..., Any]) -> None:
    parameters = inspect.signature(verb).parameters
    assert {"hyperparameters", "method", "force_new", "tags"} <= set(parameters)
    assert parameters["force_new"].default is False
    assert "max_billed_tokens" in pydoc.render_doc(verb, renderer=pydoc.plaintext)


@pytest.mark.parametrize(
    ("call", "start", "end"),
    [
        (
            lambda c: c.jobs.create("Phi-4-mini-instruct", "train.jsonl", epochs=3),
            "Jobs.create() got an unexpected keyword argument 'epochs'. It is a hyperparameter",
            'pass hyperparameters={"epochs": ...}',
        ),
        (
            lambda c: c.chat.complete("tickets", [], temprature=0),
            "Chat.complete() got an unexpected keyword argument 'temprature'",
            "Did you mean 'temperature'?",
        ),
        (
            lambda c: c.deployments.create("tickets", modle="m"),
            "Deployments.create() got an unexpected keyword argument 'modle'",
            "Did you mean 'model'?",
        ),
        (
            lambda c: next(c.jobs.list(limit=3)),
            "Jobs.list() got an unexpected keyword",
            "'limit'",
        ),
        (
            lambda c: c.fine_tune(),
            "Client.fine_tune() missing a required argument",
            "'training_data'",
        ),
    ],
)
def test_call_that_does_not_fit_names_the_method(
    call: Callable[[Any], object], start: str, end: str
) -> None:
    with maas.Client.local() as client, pytest.raises(TypeError) as caught:
        call(client)
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(end)


def test_repr_of_a_resource_names_its_server() -> None:
    with maas.Client.local(url="http://127.0.0.1:1") as client:
        assert repr(client.jobs) == "<Jobs of the local server at http://127.0.0.1:1 (azureml)>"


PUBLIC_MODELS = [
    value
    for name in types.__all__
    if inspect.isclass(value := getattr(types, name)) and issubclass(value, BaseModel)
]


@pytest.mark.parametrize("model", PUBLIC_MODELS, ids=lambda model: model.__name__)
def test_every_field_is_described(model: type[BaseModel]) -> None:
    fields = {
        name
        for name, field in model.model_fields.items()
        if not field.description and name != "raw"
    }
    assert described(model, "Attributes", "Args") >= fields


@pytest.mark.parametrize("name", errors.__all__)
def test_every_argument_of_an_error_is_described(name: str) -> None:
    error = getattr(errors, name)
    parameters = set(inspect.signature(error.__init__).parameters) - {"self", "args", "kwargs"}
    bases = [base for base in error.__mro__ if issubclass(base, errors.MaasError)]
    documented = set().union(*(described(base, "Args", "Attributes") for base in bases))
    assert documented >= parameters


def test_help_opens_with_what_the_library_is_and_its_names() -> None:
    text = pydoc.render_doc(maas, renderer=pydoc.plaintext)
    head = text[: text.index("PACKAGE CONTENTS")]
    assert "Fine-tune small language models" in head
    names = set(maas.__all__) - {"__version__", "errors", "types", "local"}
    for name in names:
        is_error = name.endswith("Error") and name not in ("MaasError", "JobError")
        assert is_error or re.search(rf"\b{name}\b", head), f"{name} is not named"
