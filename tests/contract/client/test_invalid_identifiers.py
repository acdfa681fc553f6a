"""Invalid and unknown identifiers: every verb raises a ``MaasError`` and does nothing else."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client import Client
from maas_client.errors import ConfigError, MaasError
from maas_client.local.embedded_server import LocalServer, serve

MESSAGES = [{"role": "user", "content": "x"}]
VERBS: dict[str, Callable[[Client, Any], Any]] = {
    "jobs.get": lambda c, n: c.jobs.get(n),
    "jobs.cancel": lambda c, n: c.jobs.cancel(n),
    "jobs.delete": lambda c, n: c.jobs.delete(n),
    "jobs.logs": lambda c, n: c.jobs.logs(n),
    "jobs.wait": lambda c, n: c.jobs.wait(n, timeout=2),
    "jobs.events": lambda c, n: list(c.jobs.events(n)),
    "jobs.checkpoints": lambda c, n: list(c.jobs.checkpoints(n)),
    "datasets.get": lambda c, n: c.datasets.get(n),
    "datasets.delete": lambda c, n: c.datasets.delete(n),
    "models.get": lambda c, n: c.models.get(n),
    "models.delete": lambda c, n: c.models.delete(n),
    "deployments.get": lambda c, n: c.deployments.get(n),
    "deployments.delete": lambda c, n: c.deployments.delete(n),
    "deployments.keys": lambda c, n: c.deployments.keys(n),
    "deployments.create": lambda c, n: c.deployments.create(name="free", model=n),
    "chat.complete": lambda c, n: c.chat.complete(n, MESSAGES),
    "chat.stream": lambda c, n: list(c.chat.stream(n, MESSAGES)),
    "sessions.get": lambda c, n: c.sessions.get(n),
    "sessions.complete": lambda c, n: c.sessions.complete(n),
    "sessions.checkpoints": lambda c, n: list(c.sessions.checkpoints(n)),
}
NAMES = [
    "nope",
    "ünï",
    "a b",
    "a/b",
    "..",
    "",
    "a?b=c",
    "a\nb",
    "日本",
    "%2e%2e",
    "a\udcff",  # an argument of the command line that is not UTF-8
    "x" * 300,
    None,
    5,
]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as local_server:
        yield local_server


@pytest.fixture(scope="module", params=["azureml", "foundry"])
def client(server: LocalServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client.local(url=server.url, dialect=request.param) as local_server:
        yield local_server


@pytest.mark.parametrize("name", NAMES[1:], ids=lambda name: repr(name)[:12])
def test_invalid_deployment_name_is_refused(client: Client, name: Any) -> None:
    with pytest.raises(ConfigError):
        client.deployments.create(name=name, model="Phi-3-mini")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:12])
def test_unknown_identifier_is_a_maas_error(client: Client, verb: str, name: Any) -> None:
    with pytest.raises(MaasError) as error_info:
        VERBS[verb](client, name)
    assert str(error_info.value)


@pytest.mark.parametrize("name", ["", " ", "\n"], ids=repr)
def test_empty_identifier_is_named_before_anything_is_sent(name: str) -> None:
    with Client.local(url="http://127.0.0.1:9") as client:  # nothing listens there
        verbs = {**VERBS, "sessions.delete": lambda c, n: c.sessions.delete(n)}
        for verb, call in verbs.items():
            with pytest.raises(
                ConfigError, match=r"^an empty text is not a \w+\. Pass the"
            ) as error:
                call(client, name)
            assert error.value.hint, verb
        for upload in (
            lambda: client.datasets.upload("x.jsonl", name=name),
            lambda: client.models.upload(".", base_model="Phi-4", name=name),
        ):
            with pytest.raises(ConfigError, match="name= is empty"):
                upload()


@pytest.mark.parametrize(
    "verb", ["deployments.delete", "deployments.get", "jobs.delete", "chat.complete"]
)
def test_name_with_a_slash_is_not_its_last_segment(server: LocalServer, verb: str) -> None:
    """``x/kept`` is no way to write ``kept``: it was, and ``delete`` took it."""
    with Client.local(url=server.url) as client:
        client.deployments.create(name="kept", model="Phi-3-mini")
        with pytest.raises(ConfigError):
            VERBS[verb](client, "x/kept")
        local_server = client.deployments.get("kept")
        assert client.deployments.get(local_server.id).name == "kept"  # an ARM id is still one


def test_none_as_model_has_a_hint(client: Client) -> None:
    with pytest.raises(ConfigError, match=r"client\.jobs\.wait"):
        client.deployments.create(name="free", model=None)  # type: ignore[arg-type]  # as a mistake does


WRONG_NUMBERS: list[Any] = ["30", -1, float("nan"), True, [], {}, b"1"]


@pytest.mark.parametrize("value", [*WRONG_NUMBERS, None, 0], ids=repr)
def test_wrong_timeout_of_a_client_is_a_clear_error(value: Any) -> None:
    for make in (maas.Client.local, maas.AsyncClient.local):
        with pytest.raises(maas.ConfigError, match=r"timeout= must be a number above 0, not "):
            make(url="http://127.0.0.1:9", timeout=value)


@pytest.mark.parametrize("value", [*WRONG_NUMBERS, None, 2.5], ids=repr)
def test_wrong_number_of_retries_is_a_clear_error(value: Any) -> None:
    with pytest.raises(maas.ConfigError, match=r"max_retries= must be a whole number of at least"):
        maas.Client.local(url="http://127.0.0.1:9", max_retries=value)


@pytest.mark.parametrize("value", WRONG_NUMBERS, ids=repr)
def test_wrong_numbers_of_calls_are_clear_errors_before_anything_is_sent(value: Any) -> None:
    with maas.Client.local(url="http://127.0.0.1:9") as client:  # nothing listens there
        calls: dict[str, Callable[[], object]] = {
            "timeout": lambda: client.jobs.wait("j", timeout=value),
            "timeout ": lambda: client.fine_tune("x.jsonl", model="Phi-3-mini", timeout=value),
            "limit": lambda: client.evaluate("d", "x.jsonl", limit=value),
            "max_tokens": lambda: client.evaluate("d", "x.jsonl", max_tokens=value),
            "max_billed_tokens": lambda: client.jobs.create(
                model="Phi-3-mini", training_data="azureml:x:1", max_billed_tokens=value
            ),
        }
        for name, call in calls.items():
            with pytest.raises(maas.ConfigError, match=rf"{name.strip()}= must be a "):
                call()


NESTED: list[Any] = []
NESTED.append(NESTED)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"temperature": float("nan")}, r"JSON at temperature: nan is not a number"),
        ({"stop": ["a", {"b": float("inf")}]}, r"JSON at stop\[1\]\.b: inf is not a number"),
        ({"x": object()}, "JSON at x: object is not a type"),
        ({"x": "\ud800"}, "JSON at x: it has text that is no valid Unicode"),
        ({"x": NESTED}, "JSON at x.*: it is nested too deeply"),
    ],
)
def test_body_that_is_no_json_is_a_clear_error(extra: dict[str, Any], reason: str) -> None:
    with (
        maas.Client.local(url="http://127.0.0.1:9", dialect="foundry") as client,
        pytest.raises(maas.ConfigError, match=f"cannot be written as {reason}"),
    ):
        client.chat.complete("d", [{"role": "user", "content": "x"}], extra=extra)


WRONG_TYPES: dict[str, list[Any]] = {
    "str": [0, 1.5, True, b"x", [], {}, ["x"], object()],
    "bool": [0, 1, "no", "", [], object()],
    "int": ["3", 1.5, True, b"1", [], {}, float("nan"), 10**30],
    "float": ["3", True, b"1", [], {}, float("nan")],
    "Sequence[str]": [0, False, "PII_EMAIL", b"x", [1], {"a": 1}, object()],
    "Mapping[str, str]": [0, False, "a=b", [], [1], {1: "a"}, {"a": 1}, object()],
    "Mapping[str, Any]": [0, False, "a=b", [], [1], {1: "a"}, object()],
    "Callable": [0, 1.5, "print", [], {}],
}
"""Values that are not of a type, by the part of an annotation that names it."""
ARGUMENTS: dict[str, Any] = {
    "data": "x.jsonl",
    "path": "x.jsonl",
    "training_data": "x.jsonl",
    "folder": ".",
    "messages": MESSAGES,
    "examples": [],
    "prompt": [1],
}
"""Valid values of the arguments that must be given; all others take a name."""
LEFT_TO_METHODS = (
    "DataSource", "Messages", "Lifetime", "Sequence[TrainingExample]", "graders.Grader", "Hyperparameters",
    "Job | str", "Dataset | str", "Model | str", "Deployment | str", "Session | str", "SessionCheckpoint | str",
)  # fmt: skip


def methods(client: maas.Client | maas.AsyncClient) -> Iterator[tuple[str, Any]]:
    for owner in (client, *(v for k, v in vars(client).items() if not k.startswith("_"))):
        for name, function in vars(type(owner)).items():
            if hasattr(function, "__wrapped__"):
                label = name if owner is client else f"{type(owner).__name__}.{name}"
                yield label, getattr(owner, name)


def wrong_calls(method: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield calls of a method in which one argument has a wrong type, with its name."""
    parameters = inspect.signature(method).parameters.values()
    required = {
        p.name: 1 if p.annotation in ("int", "float") else ARGUMENTS.get(p.name, "x")
        for p in parameters
        if p.default is inspect.Parameter.empty
    }
    for parameter in parameters:
        parts = [part.strip() for part in re.split(r"\|(?![^\[]*\])", parameter.annotation)]
        if any(left in parameter.annotation for left in LEFT_TO_METHODS):
            continue
        matching = [
            values
            for kind, values in WRONG_TYPES.items()
            if any(part.startswith(kind) for part in parts)
        ]
        for value in matching[0] if len(matching) == 1 and len(parts) < 3 else ():
            yield parameter.name, value, {**required, parameter.name: value}


def test_arguments_of_wrong_types_are_refused_before_anything_is_sent() -> None:
    calls = 0
    with maas.Client.local(url="http://127.0.0.1:9") as client:
        for label, method in methods(client):
            for name, value, arguments in wrong_calls(method):
                calls += 1
                message = refusal(method, arguments)
                assert message.startswith(f"{name}= must be "), (label, name, value, message)
    assert calls > 400


GRADER = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "4",
    "operation": "eq",
}


@pytest.mark.parametrize(
    ("function", "required"),
    [
        (maas.local.serve, {"engine": "instant"}),
        (maas.graders.questions, {"grader": maas.graders.load(GRADER), "sample": "4", "item": {}}),
        (maas.graders.score, {"grader": maas.graders.load(GRADER), "sample": "4", "item": {}}),
        (maas.graders.check_item, {"grader": maas.graders.load(GRADER), "item": {}}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_functions_refuse_arguments_of_wrong_types(function: Any, required: dict[str, Any]) -> None:
    """A server with max_jobs="3" started and ran no job."""
    calls = 0
    for name, value, arguments in wrong_calls(function):
        if name in required:
            continue
        calls += 1
        with pytest.raises(maas.ConfigError, match=rf"^{name}= must be "):
            function(**{**arguments, **required, name: value})
    for name in required:
        with pytest.raises(maas.ConfigError, match=rf"^{name}= must be |^unknown engine"):
            function(**{**required, name: 3})
    assert calls or required


@pytest.mark.parametrize("name", ["threads", "max_jobs", "min_examples"])
def test_server_refuses_counts_that_would_run_no_job(name: str) -> None:
    with pytest.raises(maas.ConfigError, match=f"^{name}= must be at least "):
        maas.local.serve(**{name: -1})


def refusal(method: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Return the message of the ``ConfigError`` in which a call ends."""
    with pytest.raises(maas.ConfigError) as error:
        list(method(**arguments))
    return str(error.value)


async def test_arguments_of_wrong_types_are_refused_by_the_async_client() -> None:
    async def run(method: Any, arguments: dict[str, Any]) -> None:
        result = method(**arguments)
        await (anext(result) if isinstance(result, AsyncIterator) else result)

    async with maas.AsyncClient.local(url="http://127.0.0.1:9") as client:
        for _label, method in methods(client):
            for name, _value, arguments in list(wrong_calls(method))[::7]:
                with pytest.raises(maas.ConfigError, match=rf"^{name}= must be "):
                    await run(method, arguments)


@pytest.mark.parametrize(
    "messages",
    [5, True, b"x", [1], [None], ["hi"], {}, {"role": "user"}, "hi", None, []],
    ids=repr,
)
def test_messages_of_wrong_types_are_refused(messages: Any) -> None:
    with maas.Client.local(url="http://127.0.0.1:9") as client:
        for call in (client.chat.complete, lambda *args: list(client.chat.stream(*args))):
            with pytest.raises(maas.ConfigError, match=r"^messages must be a list of messages"):
                call("d", messages)


def test_evaluate_of_a_pipe_says_that_it_is_one(tmp_path: Path) -> None:
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)
    with maas.Client.local(url="http://127.0.0.1:9") as client:
        with pytest.raises(maas.DatasetError, match="a pipe or a device; write it to a file first"):
            client.evaluate("d", pipe)
        with pytest.raises(ConfigError, match="file not found"):
            client.evaluate("d", tmp_path / "missing.jsonl")


WRONG_OPTIONS: dict[str, list[Any]] = {
    name: [0, 5, 1.5, True, b"x", [], {}, ["x"], object()]
    for name in ("subscription_id", "resource_group", "workspace", "resource_id", "cloud", "ca_file",
                 "endpoint", "account_id", "api_key", "url", "dialect", "engine", "profile", "config")
} | {"credential": [0, "key", b"x", [], object()], "keep": ["no", "", 0, 1, None, []]}  # fmt: skip
CONSTRUCTORS: dict[str, dict[str, Any]] = {
    "azureml": {"subscription_id": "s", "resource_group": "g", "workspace": "w"},
    "foundry": {"endpoint": "https://x.openai.azure.com", "api_key": "k"},
    "local": {},
    "from_env": {},
}


@pytest.mark.parametrize("constructor", CONSTRUCTORS)
def test_options_of_wrong_types_are_refused_by_the_constructors(
    constructor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAAS_START_SERVER", "0")
    for cls in (maas.Client, maas.AsyncClient):
        make = getattr(cls, constructor)
        for name, values in WRONG_OPTIONS.items():
            for value in values if name in inspect.signature(make).parameters else ():
                given = {k: v for k, v in CONSTRUCTORS[constructor].items() if k != "api_key"}
                with pytest.raises(ConfigError, match=rf"^{name}= must be "):
                    make(**{**given, name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "model": WRONG_TYPES["str"],
        "target": WRONG_TYPES["str"],
        "method": WRONG_TYPES["str"],
        "ignore": WRONG_TYPES["Sequence[str]"],
        "warn": WRONG_TYPES["Sequence[str]"],
        "epochs": WRONG_TYPES["float"],
        "content": WRONG_TYPES["bool"],
        "progress": WRONG_TYPES["Callable"],
    }.items(),
)
def test_arguments_of_wrong_types_are_refused_by_validate(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{name}= must be "):
            maas.validate([{"messages": []}], **{name: value})
    assert maas.validate([{"messages": []}], ignore=iter(["CHAT_*"]), progress=print).files


async def test_async_functions_are_no_callbacks(server: LocalServer) -> None:
    """Nothing would await what they return, so they would never run."""

    async def callback(*_: Any) -> None:
        raise AssertionError("it never runs")

    class Callback:
        async def __call__(self, *_: Any) -> None:
            raise AssertionError("it never runs")

    async with server.async_client() as client:
        for function in (callback, partial(callback, 1), Callback()):
            for name, call in {
                "on_event": lambda f: client.jobs.wait("x", on_event=f),
                "progress": lambda f: client.jobs.wait("x", progress=f),
                "on_job": lambda f: client.fine_tune("x.jsonl", "Phi-4", on_job=f),
            }.items():
                with pytest.raises(
                    ConfigError, match=f"{name}= must be .*a function, not an async function"
                ):
                    await call(function)
