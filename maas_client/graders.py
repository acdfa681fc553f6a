"""Graders of reinforcement fine-tuning: score an answer as Azure's graders do, from 0 to 1.

A grader is the JSON object that Azure OpenAI takes (docs/azure-http.md section 4.8): ``string_check``,
``text_similarity``, ``score_model`` or ``multi``. Its texts may contain ``{{item.NAME}}``, a field of the row,
and ``{{sample.output_text}}``, ``{{sample.output_json.NAME}}`` or ``{{sample.output_tools[0].function.name}}``,
parts of the answer. ``python`` is refused: its code could reach this machine's files and network.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from maas_client._argument_types import check_type, checked
from maas_client.errors import ConfigError, MissingExtraError, UnsupportedError

__all__ = ["Grade", "Grader", "GraderQuestion", "check_item", "load", "questions", "score"]

Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
]
_REFUSED_METRICS = {
    "cosine": "it compares embeddings, and Azure offers it for evaluations only",
    "meteor": "it needs the corpus WordNet",
}
_PLACEHOLDER = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)
_PATH = re.compile(r"(item|sample)((?:\.[^.\[\]\s{}]+|\[\d{1,9}\])*)")
_STEP = re.compile(r"\.([^.\[\]\s{}]+)|\[(\d{1,9})\]")
_MAX_FORMULA_CHARS = 1000


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    pass_threshold: FiniteFloat | None = None


class StringCheck(_Spec):
    """Compares two texts: 1 or 0."""

    type: Literal["string_check"]
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilarity(_Spec):
    """Measures how similar two texts are."""

    type: Literal["text_similarity"]
    input: str
    reference: str
    evaluation_metric: Metric


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    type: Literal["message"] | None = None


class _SamplingParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_completions_tokens: PositiveInt | None = None
    """The name in OpenAI's SDK."""
    max_completion_tokens: PositiveInt | None = None
    """The name on Azure's page. Both may be given with one value."""

    @model_validator(mode="after")
    def _check_given_once(self) -> _SamplingParams:
        values = {self.max_completions_tokens, self.max_completion_tokens} - {None}
        if len(values) > 1:
            raise ValueError("max_completions_tokens and max_completion_tokens differ")
        return self


class ScoreModel(_Spec):
    """Asks a model for a score."""

    type: Literal["score_model"]
    model: str = Field(min_length=1)
    input: tuple[_Message, ...] = Field(min_length=1)
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: _SamplingParams = _SamplingParams()


_Single = Annotated[StringCheck | TextSimilarity | ScoreModel, Field(discriminator="type")]


class Multi(_Spec):
    """Combines the scores of several graders by a formula."""

    type: Literal["multi"]
    graders: dict[str, _Single] = Field(min_length=1)
    calculate_output: str
    invalid_grade: FiniteFloat = 0.0


Grader = StringCheck | TextSimilarity | ScoreModel | Multi
"""A checked grader; what ``load`` returns."""
_ADAPTER: TypeAdapter[Grader] = TypeAdapter(Annotated[Grader, Field(discriminator="type")])


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
        grader = _ADAPTER.validate_python(spec)
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
        _check_formula(grader)
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
    values = _values(sample, item, tool_calls)
    return [
        GraderQuestion(
            grader=name,
            model=each.model,
            messages=tuple(
                {"role": message.role, "content": _fill(message.content, values)}
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
    values = _values(sample, item, tool_calls)
    scores = {name: _score(each, name, values, replies or {}) for name, each in _parts(grader)}
    if not isinstance(grader, Multi):
        (value,) = scores.values()
        return Grade(value, _has_passed(grader, value))
    value = _evaluate_formula(grader, scores)
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
    values = _values("", item, ())
    for _, each in _parts(grader):
        for text in _templates(each):
            _fill(text, values)


def _has_passed(grader: Grader, value: float) -> bool | None:
    return None if grader.pass_threshold is None else value >= grader.pass_threshold


def _parts(grader: Grader) -> Iterator[tuple[str, StringCheck | TextSimilarity | ScoreModel]]:
    check_type("grader", grader, Grader, "a grader that load returned")
    if isinstance(grader, Multi):
        yield from grader.graders.items()
    else:
        yield "", grader


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
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
    if isinstance(metric, str) and metric in _REFUSED_METRICS:
        raise UnsupportedError(
            f"{place} uses the metric {metric}, which is not available here: {_REFUSED_METRICS[metric]}",
            hint="Use fuzzy_match, bleu, gleu, rouge_1 to rouge_5 or rouge_l.",
        )
    graders = spec.get("graders")
    if isinstance(graders, Mapping):
        for name, each in graders.items():
            _check_supported(each, f"the grader {name}")


def _templates(grader: StringCheck | TextSimilarity | ScoreModel) -> list[str]:
    if isinstance(grader, ScoreModel):
        return [message.content for message in grader.input]
    return [grader.input, grader.reference]


def _check(name: str, grader: StringCheck | TextSimilarity | ScoreModel) -> None:
    """Raise for templates that name nothing, and for a metric whose package is missing."""
    place = f"{name}: " if name else ""
    if isinstance(grader, ScoreModel):
        low, high = grader.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"{place}range must be two numbers, the smaller one first")
    for text in _templates(grader):
        for match in _PLACEHOLDER.finditer(text):
            if not _PATH.fullmatch(match[1].strip()):
                raise ConfigError(
                    f"{place}{match[0]} is no template",
                    hint="Write {{item.NAME}} or {{sample.output_text}}.",
                )
    if isinstance(grader, TextSimilarity):
        _metric(grader.evaluation_metric)


def _values(sample: str, item: Mapping[str, Any], tool_calls: Sequence[Any]) -> dict[str, Any]:
    try:
        output_json = json.loads(sample)
    except (ValueError, RecursionError):
        output_json = None
    output = {"output_text": sample, "output_json": output_json, "output_tools": list(tool_calls)}
    return {"item": item, "sample": output}


def _fill(template: str, values: Mapping[str, Any]) -> str:
    """Return a text with its templates replaced. What an answer does not have is empty."""

    def replace(match: re.Match[str]) -> str:
        path = _PATH.fullmatch(match[1].strip())
        assert path is not None  # _check
        value: Any = values[path[1]]
        for key, index in _STEP.findall(path[2]):
            try:
                value = value[key] if key else value[int(index)]
            except (KeyError, IndexError, TypeError):
                if path[1] == "item":
                    raise ConfigError(
                        f"the row has no {path[0]}",
                        hint="Add the field to the row, or change the grader.",
                    ) from None
                return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return _PLACEHOLDER.sub(replace, template)


def _score(
    grader: StringCheck | TextSimilarity | ScoreModel,
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
    text, reference = _fill(grader.input, values), _fill(grader.reference, values)
    if isinstance(grader, TextSimilarity):
        return _metric(grader.evaluation_metric)(text, reference)
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


def _chat_options(params: _SamplingParams) -> dict[str, Any]:
    options = {
        "seed": params.seed,
        "top_p": params.top_p,
        "temperature": params.temperature,
        "max_tokens": params.max_completions_tokens or params.max_completion_tokens,
    }
    return {name: value for name, value in options.items() if value is not None}


# -- text similarity ------------------------------------------------------------------------------------


def _metric(name: str) -> Callable[[str, str], float]:
    """Return the function of a metric: input and reference to a number from 0 to 1."""
    try:
        if name == "fuzzy_match":
            fuzz: Any = import_module("rapidfuzz.fuzz")
            process: Any = import_module("rapidfuzz.utils").default_process
            return lambda text, reference: float(
                fuzz.WRatio(text, reference, processor=process) / 100
            )
        if name == "bleu":
            bleu: Any = import_module("nltk.translate.bleu_score")
            smooth = bleu.SmoothingFunction().method1
            return lambda text, reference: float(
                bleu.sentence_bleu([reference.split()], text.split(), smoothing_function=smooth)
            )
        if name == "gleu":
            gleu: Any = import_module("nltk.translate.gleu_score")
            return lambda text, reference: float(
                gleu.sentence_gleu([reference.split()], text.split())
            )
        rouge: Any = import_module("rouge_score.rouge_scorer")
        kind = "rougeL" if name == "rouge_l" else f"rouge{name[-1]}"
        scorer = rouge.RougeScorer([kind])
        return lambda text, reference: float(scorer.score(reference, text)[kind].fmeasure)
    except ImportError:
        raise MissingExtraError(
            f"the metric {name} needs a package that is not installed",
            extra="graders",
            hint="Install it with: pip install 'maas-client[graders]'.",
        ) from None


# -- the formula of multi ---------------------------------------------------------------------------------

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min, "max": max, "abs": abs, "floor": math.floor, "ceil": math.ceil,
    "exp": math.exp, "sqrt": math.sqrt, "log": math.log,
}  # fmt: skip


def _parse_formula(grader: Multi) -> ast.expr:
    text = grader.calculate_output
    if len(text) > _MAX_FORMULA_CHARS:
        raise ConfigError(
            f"calculate_output has more than {_MAX_FORMULA_CHARS} characters", hint="Shorten it."
        )
    try:
        return ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(
            f"calculate_output is no formula: {text[:80]}",
            hint="Use names of the graders, numbers, + - * / ^, and min max abs floor ceil exp sqrt log.",
        ) from None


def _check_formula(grader: Multi) -> None:
    """Raise ``ConfigError`` for a formula that has anything but numbers, graders and known functions."""
    try:
        _calculate(_parse_formula(grader), dict.fromkeys(grader.graders, 0.5), is_check=True)
    except (RecursionError, OverflowError):
        raise ConfigError(
            "calculate_output is nested too deeply, or has too large a number"
        ) from None


def _evaluate_formula(grader: Multi, scores: Mapping[str, float]) -> float:
    """Return the value; ``invalid_grade`` where there is none (a division by zero)."""
    try:
        value = _calculate(_parse_formula(grader), scores)
    except (ArithmeticError, ValueError, TypeError):
        return grader.invalid_grade
    return value if math.isfinite(value) else grader.invalid_grade


def _calculate(node: ast.expr, scores: Mapping[str, float], *, is_check: bool = False) -> float:
    def calculate(inner: ast.expr) -> float:
        return _calculate(inner, scores, is_check=is_check)

    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name):
        if node.id not in scores:
            raise ConfigError(
                f"calculate_output names {node.id}, which is no grader",
                hint=f"Use one of {', '.join(scores)}.",
            )
        return scores[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = calculate(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and isinstance(node.op, (*_OPERATORS, ast.Pow)):
        left, right = calculate(node.left), calculate(node.right)
        if is_check:
            return 0.5
        if isinstance(node.op, ast.Pow):
            return math.pow(left, right)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _FUNCTIONS.get(node.func.id)
        arguments = [calculate(argument) for argument in node.args]
        has_right_count = bool(arguments) and (
            len(arguments) == 1 or node.func.id in ("min", "max")
        )
        if function is not None and has_right_count:
            is_list = node.func.id in ("min", "max")
            return (
                0.5 if is_check else float(function(arguments) if is_list else function(*arguments))
            )
    raise ConfigError(
        f"calculate_output has {ast.unparse(node)[:60]}, which a formula may not have",
        hint="Use names of the graders, numbers, + - * / ^, and min max abs floor ceil exp sqrt log.",
    )
