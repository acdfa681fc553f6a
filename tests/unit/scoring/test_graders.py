"""Graders: templates, the score of each type, formulas, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from maas_client import graders
from maas_client.errors import ConfigError, UnsupportedError

CHECK = {
    "type": "string_check",
    "name": "right",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "a-deployment",
    "input": [{"role": "user", "content": "Is {{ sample.output_text }} {{item.answer}}?"}],
    "sampling_params": {"seed": 42, "max_completions_tokens": 9},
    "range": [0, 10],
    "pass_threshold": 5,
}


def similarity(metric: str) -> dict[str, Any]:
    texts = {name: value for name, value in CHECK.items() if name != "operation"}
    return {**texts, "type": "text_similarity", "evaluation_metric": metric}


def multi(formula: str, **more: Any) -> dict[str, Any]:
    checks = {"a": CHECK, "b": {**CHECK, "operation": "ilike"}}
    return {"type": "multi", "name": "both", "graders": checks, "calculate_output": formula, **more}


@pytest.mark.parametrize(
    ("operation", "sample", "expected"),
    [
        ("eq", "Yes", 1), ("eq", "yes", 0), ("ne", "yes", 1), ("like", "Oh Yes!", 1),
        ("like", "oh yes", 0), ("ilike", "oh YES", 1), ("ilike", "no", 0),
    ],
)  # fmt: skip
def test_string_check(operation: str, sample: str, expected: float) -> None:
    grader = graders.load({**CHECK, "operation": operation})
    assert graders.score(grader, sample, {"answer": "Yes"}) == graders.Grade(expected)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{item.answer}}", "Yes"),
        ("{{ item.deep.list[1] }}!", "2!"),
        ("{{item.deep}}", '{"list": [1, 2]}'),
        ("{{sample.output_json.x}}", "é"),
        ("{{sample.output_json.absent}}", ""),
        ("{{sample.output_tools[0].function.name}}", "find"),
        ("{{sample.output_tools[1].function.name}}", ""),
        ("no template { }", "no template { }"),
    ],
)
def test_templates(template: str, text: str) -> None:
    grader = graders.load({**CHECK, "input": template, "reference": text})
    item = {"answer": "Yes", "deep": {"list": [1, 2]}}
    calls = [{"function": {"name": "find", "arguments": "{}"}}]
    assert graders.score(grader, '{"x": "é"}', item, tool_calls=calls).score == 1


def test_field_that_the_row_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the row has no item\.answer"):
        graders.score(graders.load(CHECK), "x", {"reply": "x"})


@pytest.mark.parametrize(
    ("metric", "equal", "similar"),
    [
        ("fuzzy_match", 1, 0.95), ("bleu", 1, 0.579), ("gleu", 1, 0.611), ("rouge_1", 1, 0.909),
        ("rouge_2", 1, 0.667), ("rouge_3", 1, 0.571), ("rouge_4", 1, 0.4), ("rouge_5", 1, 0),
        ("rouge_l", 1, 0.909),
    ],
)  # fmt: skip
def test_text_similarity(metric: str, equal: float, similar: float) -> None:
    for package in ("rapidfuzz", "rouge_score", "nltk"):
        pytest.importorskip(package)
    grader = graders.load(similarity(metric))
    item = {"answer": "the cat sat on the mat"}
    scores = [
        graders.score(grader, text, item).score
        for text in (item["answer"], "the cat sat on mat", "")
    ]
    assert scores == pytest.approx([equal, similar, 0], abs=1e-3)
    assert graders.score(grader, "", {"answer": ""}).score == 0


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("0.5 * a + 0.5 * b", 0.5), ("(a + b) / 2", 0.5), ("min(a, b)", 0), ("max(a, b, 0.2)", 1),
        ("2 ^ 3 * b - 7", 1), ("-a + abs(-b)", 1), ("floor(1.9) + ceil(0.1) - 1", 1), ("sqrt(4) / 2", 1),
        ("exp(0) + log(1)", 1), ("b / a", 0.25), ("log(a)", 0.25), ("10 ^ 400", 0.25),
    ],
)  # fmt: skip
def test_formula(formula: str, expected: float) -> None:
    """``a`` is 0 and ``b`` is 1; a value that does not exist is ``invalid_grade``."""
    grader = graders.load(multi(formula, invalid_grade=0.25, pass_threshold=0.5))
    grade = graders.score(grader, "Oh Yes", {"answer": "Yes"})
    assert grade.score == pytest.approx(expected)
    assert grade.passed is (expected >= 0.5)
    assert grade.scores == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"result": 7, "steps": []}', 7), ("8", 8), ("Score: 6.5 of 10", 6.5), ("99", 10), ("-3", 0),
        ("good", 0), ('{"steps": []}', 0), ("NaN", 0),
    ],
)  # fmt: skip
def test_score_model_reads_the_number_of_the_reply(reply: str, expected: float) -> None:
    grader = graders.load(JUDGE)
    (question,) = graders.questions(grader, "four", {"answer": 4})
    assert question.messages == ({"role": "user", "content": "Is four 4?"},)
    assert (question.model, question.options) == ("a-deployment", {"seed": 42, "max_tokens": 9})
    grade = graders.score(grader, "four", {"answer": 4}, replies={question.grader: reply})
    assert grade == graders.Grade(expected, expected >= 5)
    with pytest.raises(ConfigError, match="needs the answer of a-deployment"):
        graders.score(grader, "four", {"answer": 4})


REFUSED: dict[str, tuple[Any, str]] = {
    "python": ({"type": "python", "source": "def grade(sample, item): ..."}, "type python"),
    "inside": (
        multi("a") | {"graders": {"p": {"type": "python"}}},
        "the grader p is of type python",
    ),
    "endpoint": ({"type": "endpoint"}, "type endpoint"),
    "meteor": (similarity("meteor"), "metric meteor"),
    "cosine": (similarity("cosine"), "metric cosine"),
    "type": ({"type": "regex"}, "invalid: type"),
    "field": ({**CHECK, "colour": 1}, "colour: Extra inputs"),
    "missing": ({"type": "string_check"}, "input: Field required"),
    "operation": ({**CHECK, "operation": "neq"}, "operation: Input should be 'eq'"),
    "namespace": ({**CHECK, "input": "{{row.x}}"}, r"\{\{row.x\}\} is no template"),
    "index": ({**CHECK, "input": "{{item.a[" + "9" * 5000 + "]}}"}, "is no template"),
    "threshold": ({**CHECK, "pass_threshold": math.nan}, "pass_threshold: .*finite"),
    "invalid grade": (multi("a", invalid_grade=math.inf), "invalid_grade: .*finite"),
    "model": ({**JUDGE, "model": ""}, "model: "),
    **{
        f"{name} {value}": (
            {**JUDGE, "sampling_params": {name: value}},
            f"sampling_params.{name}: ",
        )
        for name, value in (
            ("temperature", 9),
            ("temperature", math.nan),
            ("top_p", -1),
            ("seed", 2**63),
            ("max_completions_tokens", 0),
        )
    },
    "two limits": (
        {**JUDGE, "sampling_params": {"max_completions_tokens": 9, "max_completion_tokens": 8}},
        "sampling_params: .*max_completions_tokens and max_completion_tokens differ",
    ),
    "range": ({**JUDGE, "range": [1, 0]}, "the smaller one first"),
    "list": ([], "the grader is a list"),
    "name": (multi("a + c"), "names c, which is no grader"),
    "syntax": (multi("a +"), "no formula"),
    "code": (multi("__import__('os').getpid()"), "may not have"),
    "attribute": (multi("a.real"), "may not have"),
    "function": (multi("pow(a, b)"), "may not have"),
    "arguments": (multi("sqrt(a, b)"), "may not have"),
    "deep": (multi("-" * 990 + "a"), "no formula|too deeply"),
    "long": (multi("a+" * 600 + "a"), "more than 1000 characters"),
    "nested": (multi("a") | {"graders": {"m": multi("a")}}, "invalid"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    spec, message = REFUSED[case]
    with pytest.raises((ConfigError, UnsupportedError), match=message):
        graders.load(spec)


@pytest.mark.parametrize("text", ["{{" + " " * 20000, "{{" * 20000, "{{ " * 20000])
def test_texts_that_are_no_templates_take_no_time(text: str) -> None:
    grader = graders.load({**CHECK, "input": text})
    assert graders.score(grader, "4", {"answer": text}).score == 1.0


@pytest.mark.parametrize("number", ["9" * 400, '{"result": ' + "9" * 400 + "}", "NaN", "1e999"])
def test_a_reply_with_a_number_that_is_too_large_is_the_lowest_score(number: str) -> None:
    grader = graders.load({**JUDGE, "range": [1, 5]})
    assert graders.score(grader, "4", {"answer": "4"}, replies={"": number}).score == 1.0


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "grader.json"
    path.write_text(json.dumps(CHECK))
    assert graders.load(path) == graders.load(str(path)) == graders.load(CHECK)
    path.write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        graders.load(path)
    with pytest.raises(ConfigError, match=r"No such file or directory\. Check the path"):
        graders.load(tmp_path / "absent.json")
    if Path("/dev/zero").exists():
        with pytest.raises(ConfigError, match="cannot be read: it is larger than 16 MiB"):
            graders.load("/dev/zero")
