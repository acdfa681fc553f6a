"""Graders of reinforcement fine-tuning: score an answer as Azure's graders do, from 0 to 1.

A grader is the JSON object that Azure OpenAI takes (docs/azure-http.md section 4.8): ``string_check``,
``text_similarity``, ``score_model`` or ``multi``. Its texts may contain ``{{item.NAME}}``, a field of the row,
and ``{{sample.output_text}}``, ``{{sample.output_json.NAME}}`` or ``{{sample.output_tools[0].function.name}}``,
parts of the answer. ``python`` is refused: its code could reach this machine's files and network.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from maas_client._argument_types import check_type, checked
from maas_client._files.small_file import read_small_file
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.graders._formula import check_formula, evaluate_formula
from maas_client.graders._metrics import REFUSED_METRICS, find_metric
from maas_client.graders._models import (
    GRADER,
    Grader,
    Multi,
    SamplingParams,
    ScoreModel,
    SingleGrader,
    TextSimilarity,
)
from maas_client.graders._templates import check_templates, fill, template_values, templates_of

__all__ = ["Grade", "Grader", "GraderQuestion", "check_item", "load", "questions", "score"]


@dataclass(frozen=True, slots=True)
class Grade:
    """The score of an answer."""

    score: float
    """From 0 to 1, or in the range of a ``score_model`` grader."""
    passed: bool | None = None
    """Whether the score is at least ``pass_threshold``; None if the grader has none."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """``multi``: the score of each of its graders."""


@dataclass(frozen=True, slots=True)
class GraderQuestion:
    """A question for the model of a ``score_model`` grader."""

    grader: str
    """The grader's key in ``multi``; empty for a grader that stands alone."""
    model: str
    messages: tuple[dict[str, str], ...]
    options: Mapping[str, Any]
    """Sampling parameters, by the names of ``client.chat.complete``."""


def load(source: Mapping[str, Any] | str | PathLike[str]) -> Grader:
    """Return the grader of a JSON object or of a JSON file, after checking it.

    Args:
        source: The object, or the path of a file with it.

    Returns:
        The grader.

    Raises:
        ConfigError: The file cannot be read, or the grader is invalid; the message names the field.
        UnsupportedError: It is a ``python`` or ``endpoint`` grader, or has a metric that is not available here.
        MissingExtraError: A metric needs the extra ``graders``.

    Example:
        >>> grader = maas.graders.load({
        ...     "type": "string_check",
        ...     "name": "right",
        ...     "input": "{{sample.output_text}}",
        ...     "reference": "{{item.answer}}",
        ...     "operation": "eq",
        ... })
    """
    if not isinstance(source, Mapping | str | PathLike):
        raise ConfigError(f"the grader is a {type(source).__name__}, not an object or a path")
    spec = source if isinstance(source, Mapping) else _read(Path(fspath(source)))
    _check_supported(spec)
    try:
        grader = GRADER.validate_python(spec)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        kinds = {"string_check", "text_similarity", "score_model", "multi"}
        place = ".".join(str(part) for part in first["loc"] if part not in kinds)
        raise ConfigError(
            f"the grader is invalid: {place or 'type'}: {first['msg'].removeprefix('Value error, ')}",
            hint="The fields of each type are in docs/how-to/evaluate.md.",
        ) from None
    for name, each in _parts(grader):
        _check(name, each)
    if isinstance(grader, Multi):
        check_formula(grader)
    return grader


@checked
def questions(
    grader: Grader, sample: str, item: Mapping[str, Any], *, tool_calls: Sequence[Any] = ()
) -> list[GraderQuestion]:
    """Return the questions whose answers ``score`` needs: one for each ``score_model`` grader.

    Args:
        grader: The grader.
        sample: The text of the answer.
        item: The row, whose fields the templates name.
        tool_calls: The tool calls of the answer; default: none.

    Returns:
        The questions. ``client.evaluate`` asks them.

    Raises:
        ConfigError: A template names a field that the row does not have.

    Example:
        >>> maas.graders.questions(grader, "4", {"answer": "4"})
        []
    """
    values = template_values(sample, item, tool_calls)
    return [
        GraderQuestion(
            grader=name,
            model=each.model,
            messages=tuple(
                {"role": message.role, "content": fill(message.content, values)}
                for message in each.input
            ),
            options=_chat_options(each.sampling_params),
        )
        for name, each in _parts(grader)
        if isinstance(each, ScoreModel)
    ]


@checked
def score(
    grader: Grader,
    sample: str,
    item: Mapping[str, Any],
    *,
    tool_calls: Sequence[Any] = (),
    replies: Mapping[str, str] | None = None,
) -> Grade:
    """Score an answer.

    Args:
        grader: The grader.
        sample: The text of the answer.
        item: The row, whose fields the templates name.
        tool_calls: The tool calls of the answer; default: none.
        replies: What the models answered to ``questions``, by the question's ``grader``; default: none.

    Returns:
        The grade.

    Raises:
        ConfigError: A template names a field that the row does not have, or a reply is missing.

    Example:
        >>> maas.graders.score(grader, "4", {"answer": "4"}).score
        1.0
    """
    values = template_values(sample, item, tool_calls)
    scores = {name: _score(each, name, values, replies or {}) for name, each in _parts(grader)}
    if not isinstance(grader, Multi):
        (value,) = scores.values()
        return Grade(value, _has_passed(grader, value))
    value = evaluate_formula(grader, scores)
    return Grade(value, _has_passed(grader, value), scores)


@checked
def check_item(grader: Grader, item: Mapping[str, Any]) -> None:
    """Check that a row has every field that the grader's templates name, before an answer is paid for.

    Args:
        grader: The grader.
        item: The row.

    Raises:
        ConfigError: The row lacks a field; the message names it.

    Example:
        >>> maas.graders.check_item(grader, {"answer": "4"})
    """
    values = template_values("", item, ())
    for _, each in _parts(grader):
        for text in templates_of(each):
            fill(text, values)


def _has_passed(grader: Grader, value: float) -> bool | None:
    return None if grader.pass_threshold is None else value >= grader.pass_threshold


def _parts(grader: Grader) -> Iterator[tuple[str, SingleGrader]]:
    check_type("grader", grader, Grader, "a grader that load returned")
    if isinstance(grader, Multi):
        yield from grader.graders.items()
    else:
        yield "", grader


def _read(path: Path) -> Any:
    try:
        return json.loads(read_small_file(path))
    except OSError as error:
        raise ConfigError(
            f"the grader {path} cannot be read: {error.strerror}",
            hint="Check the path; it is relative to the current folder.",
        ) from None
    except (ValueError, RecursionError):
        raise ConfigError(
            f"the grader {path} is not JSON", hint="Write one JSON object into the file."
        ) from None


def _check_supported(spec: Any, place: str = "the grader") -> None:
    if not isinstance(spec, Mapping):
        raise ConfigError(f"{place} is not a JSON object")
    kind, metric = spec.get("type"), spec.get("evaluation_metric")
    if kind == "python":
        raise UnsupportedError(
            f"{place} is of type python, and its code could reach this machine's files and network",
            hint="Write it as multi with string_check and text_similarity, or score answers in your program.",
        )
    if kind in ("endpoint", "label_model"):
        raise UnsupportedError(
            f"{place} is of type {kind}, which is not available here",
            hint="Use string_check, text_similarity, score_model or multi.",
        )
    if isinstance(metric, str) and metric in REFUSED_METRICS:
        raise UnsupportedError(
            f"{place} uses the metric {metric}, which is not available here: {REFUSED_METRICS[metric]}",
            hint="Use fuzzy_match, bleu, gleu, rouge_1 to rouge_5 or rouge_l.",
        )
    graders = spec.get("graders")
    if isinstance(graders, Mapping):
        for name, each in graders.items():
            _check_supported(each, f"the grader {name}")


def _check(name: str, grader: SingleGrader) -> None:
    """Raise for templates that name nothing, and for a metric whose package is missing."""
    place = f"{name}: " if name else ""
    if isinstance(grader, ScoreModel):
        low, high = grader.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"{place}range must be two numbers, the smaller one first")
    for text in templates_of(grader):
        check_templates(text, place)
    if isinstance(grader, TextSimilarity):
        find_metric(grader.evaluation_metric)


def _score(
    grader: SingleGrader,
    name: str,
    values: Mapping[str, Any],
    replies: Mapping[str, str],
) -> float:
    if isinstance(grader, ScoreModel):
        if name not in replies:
            raise ConfigError(
                f"the grader {name or grader.name} needs the answer of {grader.model}",
                hint="Ask what graders.questions returns, and pass the answers as replies.",
            )
        return _to_score(replies[name], grader)
    text, reference = fill(grader.input, values), fill(grader.reference, values)
    if isinstance(grader, TextSimilarity):
        return find_metric(grader.evaluation_metric)(text, reference)
    results = {
        "eq": text == reference,
        "ne": text != reference,
        "like": reference in text,
        "ilike": reference.casefold() in text.casefold(),
    }
    return float(results[grader.operation])


def _to_score(reply: str, grader: ScoreModel) -> float:
    """Return the number in a reply within the range; 0 if there is none, as the service does."""
    try:
        value = json.loads(reply)
        number = float(value["result"] if isinstance(value, dict) else value)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        found = re.search(r"-?\d+(?:\.\d+)?", reply)
        number = float(found[0]) if found else 0.0
    low, high = grader.range
    return min(max(number if math.isfinite(number) else 0.0, low), high)


def _chat_options(params: SamplingParams) -> dict[str, Any]:
    options = {
        "seed": params.seed,
        "top_p": params.top_p,
        "temperature": params.temperature,
        "max_tokens": params.max_completions_tokens or params.max_completion_tokens,
    }
    return {name: value for name, value in options.items() if value is not None}
