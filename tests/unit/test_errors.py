"""Every error prints, says what to do, and survives pickling."""

from __future__ import annotations

import pickle

import pytest

from maas_client import errors

EVERY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.MaasError)
]


@pytest.mark.parametrize("kind", EVERY, ids=lambda k: k.__name__)
def test_prints_and_pickles(kind: type[errors.MaasError]) -> None:
    error = kind("it broke", hint="Mend it.")
    assert str(error) == "it broke. Mend it."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert isinstance(error, errors.MaasError)


def test_where_it_happened() -> None:
    error = errors.BadRequestError(
        'line 17 has no "messages"',
        status=400,
        code="Invalid",
        request_id="7f3",
        operation="jobs.create",
    )
    assert str(error) == 'line 17 has no "messages" (jobs.create 400 Invalid, request 7f3)'
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (422, errors.BadRequestError),
        (429, errors.RateLimitError),
        (500, errors.ServiceError),
        (302, errors.ServiceError),
    ],
)
def test_status_to_class(status: int, kind: type[errors.StatusError]) -> None:
    assert errors.error_class_for_status(status) is kind


def test_field_words() -> None:
    assert issubclass(errors.JobTimeoutError, TimeoutError)
    assert issubclass(errors.MissingExtraError, ImportError)
