"""The JSON objects of Azure's graders (docs/azure-http.md section 4.8), as pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    TypeAdapter,
    model_validator,
)

Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
]


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


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    type: Literal["message"] | None = None


class SamplingParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_completions_tokens: PositiveInt | None = None
    """The name in OpenAI's SDK."""
    max_completion_tokens: PositiveInt | None = None
    """The name on Azure's page. Both may be given with one value."""

    @model_validator(mode="after")
    def _check_given_once(self) -> SamplingParams:
        values = {self.max_completions_tokens, self.max_completion_tokens} - {None}
        if len(values) > 1:
            raise ValueError("max_completions_tokens and max_completion_tokens differ")
        return self


class ScoreModel(_Spec):
    """Asks a model for a score."""

    type: Literal["score_model"]
    model: str = Field(min_length=1)
    input: tuple[Message, ...] = Field(min_length=1)
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: SamplingParams = SamplingParams()


SingleGrader = Annotated[StringCheck | TextSimilarity | ScoreModel, Field(discriminator="type")]


class Multi(_Spec):
    """Combines the scores of several graders by a formula."""

    type: Literal["multi"]
    graders: dict[str, SingleGrader] = Field(min_length=1)
    calculate_output: str
    invalid_grade: FiniteFloat = 0.0


Grader = StringCheck | TextSimilarity | ScoreModel | Multi
"""A checked grader; what ``load`` returns."""
GRADER: TypeAdapter[Grader] = TypeAdapter(Annotated[Grader, Field(discriminator="type")])
