"""Messages with arguments and calls, in Python and in other words."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from maas_client._messages import AnyOf, Argument, Call, Constructor, Part, PythonOnly, Text
from maas_client.errors import ConfigError, NotFoundError, StatusError


def render(text: Text) -> str:
    return text.render(
        argument=lambda part: None if part.name == "api_key" else f"--{part.name}",
        call=lambda part: f"maas-client {part.name.replace('.', ' ')}",
        constructor=lambda part: f"--backend {part.backend}",
    )


@pytest.mark.parametrize(
    ("part", "python"),
    [
        (Argument("epochs"), "epochs="),
        (Argument("force_new", True), "force_new=True"),
        (Argument("name", None), "name=None"),
        (Argument("name", ""), "name=''"),
        (Argument("extra", code='{"x": ...}'), 'extra={"x": ...}'),
        (Call("jobs.wait", "job"), "client.jobs.wait(job)"),
        (Call("jobs.list", Argument("limit", 5)), "client.jobs.list(limit=5)"),
        (Call("fine_tune"), "client.fine_tune"),
        (Constructor("azureml"), "Client.azureml()"),
        (Constructor("local", dialect="foundry"), "Client.local(dialect='foundry')"),
        (AnyOf(Argument("api_key"), "MAAS_API_KEY"), "api_key= or MAAS_API_KEY"),
        (PythonOnly("Use ", Argument("timeout"), "."), "Use timeout=."),
    ],
)
def test_parts_read_as_python(part: Part, python: str) -> None:
    assert str(part) == python
    assert Text("a ", part, " b") == f"a {python} b"


def test_format_fills_fields_and_keeps_parts() -> None:
    text = Text.format(
        "{n:,} rows of {0!r}: pass {1} or {call}.",
        "a",
        Argument("limit"),
        n=1234,
        call=Call("jobs.get", "name"),
    )
    assert text == "1,234 rows of 'a': pass limit= or client.jobs.get(name)."
    assert render(text) == "1,234 rows of 'a': pass --limit or maas-client jobs get."


def test_format_takes_unnumbered_fields_and_escaped_braces() -> None:
    assert Text.format("{} {{}} {}", 1, Argument("x")) == "1 {} x="


def test_render_writes_arguments_and_calls_in_other_words() -> None:
    text = Text.format("Pass {} with {}.", Argument("force_new", True), Constructor("local"))
    assert text == "Pass force_new=True with Client.local()."
    assert render(text) == "Pass --force_new with --backend local."
    assert text.render() == str(text)


def test_render_leaves_out_what_only_python_has() -> None:
    key = Text.format("Pass the key as {}.", AnyOf(Argument("api_key"), "MAAS_API_KEY"))
    assert render(key) == "Pass the key as MAAS_API_KEY."
    text = Text("Try again. ", PythonOnly("A longer deadline: ", Argument("timeout"), "."))
    assert text == "Try again. A longer deadline: timeout=."
    assert render(text) == "Try again."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (Text("Pass ", PythonOnly("the job itself, or "), "its name."), "Pass its name."),
        (Text("Pass it ", PythonOnly("as ", Argument("x")), ", or a file."), "Pass it, or a file."),
        (Text(PythonOnly("In Python: "), "do it."), "do it."),
        (Text("Do it.", PythonOnly(" Or not."), " Then wait."), "Do it. Then wait."),
        (Text("Do it. ", PythonOnly("Or not."), " Then wait."), "Do it. Then wait."),
        (Text(PythonOnly("In Python only.")), ""),
    ],
)
def test_words_around_what_is_left_out_stay_apart(text: Text, words: str) -> None:
    assert render(text) == words


def test_a_part_without_other_words_stays() -> None:
    assert Text("a ", Argument("x")).render(argument=lambda _: None) == "a x="


def test_concatenation_and_join_keep_parts() -> None:
    text = "See " + Text(Argument("a")) + " and " + Text(", ").join([Argument("b"), "c"]) + ".."
    assert text == "See a= and b=, c.."
    assert render(text.rstrip(".")) == "See --a and --b, c"
    assert Text(Argument("a"), ".").rstrip(".").parts == (Argument("a"),)
    assert Text("..").rstrip(".") == ""


def test_a_text_is_a_str() -> None:
    text = Text("Pass ", Argument("x"), ".")
    assert isinstance(text, str)
    assert {text: 1}["Pass x=."] == 1
    assert type(str(text)) is str


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))]
)
def test_copies_keep_parts(duplicate: Callable[[Text], Text]) -> None:
    text = Text("Pass ", Argument("x", 1), AnyOf("a", Call("b.c")), PythonOnly("d"))
    assert duplicate(text) == text
    assert duplicate(text).parts == text.parts


def test_errors_keep_parts() -> None:
    hint = Text.format("Pass {}.", Argument("force_new", True))
    error = StatusError(Text("no ", Argument("x"), "."), status=404, hint=hint)
    assert str(error) == "no x= (404). Pass force_new=True."
    assert type(str(error)) is str
    assert render(error.to_text()) == "no --x (404). Pass --force_new."
    again = pickle.loads(pickle.dumps(error))
    assert render(again.to_text()) == "no --x (404). Pass --force_new."
    assert render(again.hint) == "Pass --force_new."


@pytest.mark.parametrize("message", ["what is it?", "it broke.", "it broke"])
def test_a_plain_message_is_a_text_too(message: str) -> None:
    error = ConfigError(message, hint="Fix it.")
    assert error.to_text().render() == str(error)


def test_error_of_a_missing_resource_names_the_call_that_lists() -> None:
    error = NotFoundError("Job x was not found", status=404, operation="jobs.get")
    assert str(error) == (
        "Job x was not found (jobs.get 404). List the existing names: client.jobs.list"
    )
    assert NotFoundError("no blob", status=404, operation="blob.get").hint is None
    assert NotFoundError("x", operation="jobs.get", hint="Look again.").hint == "Look again."
