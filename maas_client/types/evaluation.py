"""The result of ``client.evaluate``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AliasChoices, Field, computed_field

from maas_client.types._api_model import FrozenModel, html_table

__all__ = ["AnswerScore", "Evaluation", "LabelScores", "Scores"]


class AnswerScore(FrozenModel):
    """The score of one test row.

    Attributes:
        line: The row's line in the file, from 1.
        expected: The expected answer: the row's last assistant message.
        answer: The deployment's answer.
        exact: True if both are equal, apart from white space at the ends. Tool calls are compared by name and
            arguments.
        token_f1: The F1 score of the words of both (as in SQuAD), from 0 to 1, without case and
            punctuation.
        baseline: The baseline's answer; None without a baseline.
        baseline_exact: ``exact`` of the baseline's answer.
        baseline_token_f1: ``token_f1`` of the baseline's answer.
        grade: The grader's score; None without a grader.
        passed: True if ``grade`` is at least the grader's ``pass_threshold``; None without one.
        baseline_grade: ``grade`` of the baseline's answer.
    """

    line: int
    expected: str = Field(validation_alias=AliasChoices("expected", "want"))
    answer: str = Field(validation_alias=AliasChoices("answer", "got"))
    exact: bool
    token_f1: float
    baseline: str | None = None
    baseline_exact: bool | None = None
    baseline_token_f1: float | None = None
    grade: float | None = None
    passed: bool | None = None
    baseline_grade: float | None = None

    @computed_field  # type: ignore[prop-decorator]  # as in pydantic's documentation
    @property
    def want(self) -> str:
        """The name of ``expected`` in version 0.2, also in JSON."""
        return self.expected

    @computed_field  # type: ignore[prop-decorator]  # as above
    @property
    def got(self) -> str:
        """The name of ``answer`` in version 0.2, also in JSON."""
        return self.answer


class LabelScores(FrozenModel):
    """Classification scores, for datasets whose answers are labels.

    Attributes:
        confusion: How often each expected label was answered with each label:
            ``confusion[expected][answered]``. ``(other)`` counts answers that are no label.
        f1: The F1 score of each label, from 0 to 1.
        macro_f1: The mean of ``f1`` over the labels.
        accuracy: The share of correct answers, from 0 to 1.
    """

    confusion: dict[str, dict[str, int]]
    f1: dict[str, float]
    macro_f1: float
    accuracy: float


class Scores(FrozenModel):
    """The mean scores of one deployment.

    Attributes:
        answers: The number of answers that were scored.
        exact_match: The share of exact answers, from 0 to 1.
        token_f1: The mean of ``AnswerScore.token_f1``, from 0 to 1.
        labels: Classification scores; None if the answers are not labels.
        grade: The mean of ``AnswerScore.grade``; None without a grader.
        pass_rate: The share of answers that passed, from 0 to 1; None without a ``pass_threshold``.
    """

    _REPR_FIELDS: ClassVar = ("answers", "exact_match", "token_f1", "grade")

    answers: int
    exact_match: float
    token_f1: float
    labels: LabelScores | None = None
    grade: float | None = None
    pass_rate: float | None = None


class Evaluation(FrozenModel):
    """The scores of a deployment on test rows, next to a baseline if one was given.

    Attributes:
        deployment: The name of the deployment.
        scores: The mean scores of the deployment.
        baseline: The name of the baseline deployment; None if none was given.
        baseline_scores: The mean scores of the baseline.
        token_f1_gain: The 95 % confidence interval of the difference in ``token_f1`` (deployment minus
            baseline). If both ends are above zero, the deployment is better.
        answers: The score of every row.
        refused: Rows that the service refused to answer: line to reason. They do not count in the scores.
        skipped: Lines whose last message is not the assistant's, so that there is no expected answer.
        simulated: True if the local server's instant engine gave answers: the scores say nothing about a model.
    """

    _REPR_FIELDS: ClassVar = (
        "deployment",
        "scores",
        "baseline",
        "baseline_scores",
        "token_f1_gain",
    )

    deployment: str
    scores: Scores
    baseline: str | None = None
    baseline_scores: Scores | None = None
    token_f1_gain: tuple[float, float] | None = None
    answers: tuple[AnswerScore, ...]
    refused: dict[int, str] = Field(default_factory=dict)
    skipped: tuple[int, ...] = ()
    simulated: bool = False

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = []
        for name, scores in (
            (self.deployment, self.scores),
            (self.baseline, self.baseline_scores),
        ):
            if scores is not None:
                text = f"exact match {scores.exact_match:.1%}, token F1 {scores.token_f1:.3f}"
                text += "" if scores.grade is None else f", grade {scores.grade:.3f}"
                rows.append((f"{name}", f"{text} ({scores.answers:,} answers)"))
        if self.token_f1_gain is not None:
            low, high = self.token_f1_gain
            rows.append(("token F1 gain (95 %)", f"{low:+.3f} to {high:+.3f}"))
        rows.append(("refused", len(self.refused) or None))
        rows.append(("skipped", len(self.skipped) or None))
        rows.append(("answers", "simulated by the instant engine" if self.simulated else None))
        return html_table(rows, caption="Evaluation")
