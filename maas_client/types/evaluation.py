"""What ``client.evaluate`` found."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class AnswerScore(_Part):
    """One held-out row: what was wanted, what was answered, how near it comes."""

    line: int
    """In the file, from 1."""
    want: str
    got: str
    exact: bool
    token_f1: float
    """From 0 to 1."""
    baseline: str | None = None
    """What the baseline answered, if there was one."""
    baseline_exact: bool | None = None
    baseline_token_f1: float | None = None


class LabelScores(_Part):
    """Which label was taken for which."""

    confusion: dict[str, dict[str, int]]
    """Wanted label to given label to how often; ``(other)`` is an answer that is no label."""
    f1: dict[str, float]
    macro_f1: float
    accuracy: float


class Scores(_Part):
    """Means over the answers of one deployment."""

    answers: int
    exact_match: float
    token_f1: float
    labels: LabelScores | None = None


class Evaluation(_Part):
    """A deployment on held-out rows, beside a baseline if one was asked for."""

    deployment: str
    scores: Scores
    baseline: str | None = None
    baseline_scores: Scores | None = None
    token_f1_gain: tuple[float, float] | None = None
    """The 95 % interval of the difference to the baseline; above zero throughout is a gain."""
    answers: tuple[AnswerScore, ...]
    refused: dict[int, str] = {}
    """Line to reason: rows the service would not answer. They count in neither score."""
    skipped: tuple[int, ...] = ()
    """Lines without an answer to compare with (their last message is not the assistant's)."""
