"""The public types: short representations, complete descriptions, no deprecated methods."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from maas_client import types
from maas_client.errors import ConfigError
from maas_client.types import Dataset, Evaluation, Hyperparameters, Job, JobError, Model
from maas_client.types._api_model import html_table
from maas_client.types.evaluation import AnswerScore

MODELS = [
    model
    for model in map(vars(types).get, types.__all__)
    if isinstance(model, type) and issubclass(model, BaseModel)
]

JOB = Job(
    id="/subscriptions/s/jobs/tickets-1",
    name="tickets-1",
    status="Completed",
    done=True,
    succeeded=True,
    model="Phi-4-mini-instruct",
    fine_tuned_model="azureml://registries/a/models/tickets/versions/1",
    hyperparameters={"num_train_epochs": "3"},
    created_at=datetime(2026, 11, 29, 10, tzinfo=UTC),
    properties={"a": "b" * 500},
    raw={"a": "b" * 500},
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_is_described(model: type[BaseModel]) -> None:
    documentation = model.__doc__ or ""
    for name, field in model.model_fields.items():
        assert f"    {name}: " in documentation or field.description, name


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_dir_has_no_deprecated_methods(model: type[BaseModel]) -> None:
    listed = dir(model.model_construct())
    assert {"copy", "dict", "json", "parse_obj", "schema"} & set(listed) <= set(model.model_fields)
    assert "model_dump" in listed


def test_repr_of_a_job_shows_what_matters() -> None:
    assert repr(JOB) == (
        "Job(name='tickets-1', status='Completed', model='Phi-4-mini-instruct', "
        "fine_tuned_model='azureml://registries/a/models/tickets/versions/1')"
    )
    failed = JOB.model_copy(update={"fine_tuned_model": None, "error": JobError(message="no")})
    assert "error=JobError(" in repr(failed)


def test_repr_of_hyperparameters_shows_only_what_was_set() -> None:
    assert repr(Hyperparameters(epochs=3)) == "Hyperparameters(epochs=3)"


def test_moments_are_datetimes() -> None:
    moment = "2026-11-29T10:00:00Z"
    dataset = Dataset(id="file-1", name="a", created_at=moment)
    model = Model(id="m", name="m", created_at=moment)
    assert dataset.created_at == model.created_at == datetime(2026, 11, 29, 10, tzinfo=UTC)


def test_unknown_hyperparameter_error_lists_the_names() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown hyperparameter 'n_epochs'.*epochs=.*extra="
    ) as caught:
        Hyperparameters(n_epochs=3)
    assert "extra=," not in str(caught.value)


def test_invalid_hyperparameter_error_names_the_item() -> None:
    with pytest.raises(ConfigError, match=r"hyperparameter epochs=: must be greater"):
        Hyperparameters(epochs=0)
    with pytest.raises(ConfigError, match=r"hyperparameter target_modules=, item 1: "):
        Hyperparameters(target_modules=("a", 2))
    with pytest.raises(
        ConfigError, match=r'must be .* a mapping\. .*hyperparameters={"epochs": 3}'
    ):
        Hyperparameters.model_validate(7)


def test_notebook_view_of_a_job() -> None:
    html = JOB._repr_html_()
    for text in ("tickets-1", "Completed", "num_train_epochs", "2026-11-29 10:00:00 UTC"):
        assert text in html
    assert "bbbb" not in html
    assert "error" not in html
    assert "simulated" not in html
    job = JOB.model_copy(
        update={"properties": {"simulated": "true"}, "hyperparameters": {"n_epochs": -1}}
    )
    html = job._repr_html_()
    assert "simulated by the instant engine" in html
    assert "n_epochs" not in html


def test_notebook_view_of_an_evaluation() -> None:
    scores = {"answers": 10, "exact_match": 0.5, "token_f1": 0.75}
    evaluation = Evaluation(
        deployment="tuned",
        scores=scores,
        baseline="<base>",
        baseline_scores=scores,
        token_f1_gain=(0.01, 0.2),
        answers=(),
        refused={3: "filtered"},
    )
    html = evaluation._repr_html_()
    for text in ("tuned", "&lt;base&gt;", "50.0%", "0.750", "+0.010 to +0.200", "refused"):
        assert text in html
    assert "skipped" not in html
    assert len(repr(evaluation)) < 400


def test_html_table_escapes_and_skips_empty_values() -> None:
    html = html_table([("a<", "b>"), ("c", None), ("d", ""), ("e", 0)], caption="T&T")
    assert "a&lt;" in html
    assert "b&gt;" in html
    assert "T&amp;T" in html
    assert "<th style='text-align:left'>c" not in html
    assert "<td style='text-align:left'>0" in html


def test_names_of_version_0_2_stay_beside_the_newer_ones() -> None:
    score = AnswerScore(line=1, expected="x", answer="y", exact=False, token_f1=0.0)
    assert (score.want, score.got) == ("x", "y")
    dataset = Dataset(id="i", name="n", attached=True)
    assert dataset.already_there
    for value in (score, dataset):
        assert type(value).model_validate(value.model_dump()) == value
        assert type(value).model_validate_json(value.model_dump_json()) == value
    older = {"line": 1, "want": "x", "got": "y", "exact": False, "token_f1": 0.0}
    assert AnswerScore.model_validate(older) == score
    assert {"want", "got", "expected", "answer"} <= set(score.model_dump())
    assert Dataset.model_validate({"id": "i", "name": "n", "already_there": True}) == dataset
    assert dataset.model_dump_json().count("already_there") == 1
