"""Every parser of foreign bytes reads or refuses random inputs; ``tests.fuzz.parsers`` runs more."""

from __future__ import annotations

import pytest

from tests.fuzz import parsers


@pytest.mark.parametrize("name", parsers.PARSERS)
def test_random_bytes_are_read_or_refused(name):
    parsers.check(name, parsers.PARSERS[name], count=100, seed=0)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("block_id", b"\xb1"),
        ("dates", b"Mon, 1 Jan 99999999999999999999 00:00:00 GMT"),
        ("mlflow_filter", b"tags.a LIKE '" + b"%a" * 20 + b"b'"),
        ("mlflow_filter", b"metrics.a > 1e"),
        ("server_record", b"[" * 100_000),
        ("error_body", b"{" + b'"a":[' * 100_000),
        ("config_toml", b"profile = " + b"9" * 5000),
        ("config_toml", b"profile = " + b"[" * 100_000),
        ("compressed_response", b"identity " + b"9" * 5000 + b"\n{}"),
        ("catalog_override", b"[" * 100_000),
    ],
)
def test_bytes_that_once_ended_in_an_exception_or_took_minutes(name, data):
    parsers.check(name, parsers.PARSERS[name]._replace(seeds=[data]), count=1, seed=0)
