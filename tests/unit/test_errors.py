"""Errors: their text, their hints, pickling."""

from __future__ import annotations

import pickle

import pytest

from maas_client import errors

ERROR_CLASSES = [
    error_class
    for error_class in vars(errors).values()
    if isinstance(error_class, type) and issubclass(error_class, errors.MaasError)
]


@pytest.mark.parametrize("error_class", ERROR_CLASSES, ids=lambda k: k.__name__)
def test_str_and_pickle(error_class: type[errors.MaasError]) -> None:
    error = error_class("it broke", hint="Fix it.")
    assert str(error) == "it broke. Fix it."
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_class
    assert str(copy) == str(error)
    assert isinstance(error, errors.MaasError)


def test_str_has_the_place() -> None:
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
    ("status", "error_class"),
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
def test_error_class_for_status(status: int, error_class: type[errors.StatusError]) -> None:
    assert errors.error_class_for_status(status) is error_class


def test_builtin_base_classes() -> None:
    assert issubclass(errors.JobTimeoutError, TimeoutError)
    assert issubclass(errors.MissingExtraError, ImportError)
