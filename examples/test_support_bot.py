"""Tests of an application, offline: ``pip install 'maas-client[server]'`` provides the fixture.

pytest examples/test_support_bot.py
"""

from pathlib import Path

import pytest
import support_bot

DATA = Path(__file__).parent / "data" / "train.jsonl"


def test_it_answers_from_the_training_data(maas_server):
    support_bot.prepare(DATA)
    assert "low on battery" in support_bot.answer("What does error E11 mean?")


def test_it_trains_only_once(maas_server):
    assert support_bot.prepare(DATA) == support_bot.prepare(DATA)
    assert len(list(maas_server.client().jobs.list())) == 1


def test_it_apologizes_without_a_model(maas_server):
    assert "support@example.com" in support_bot.answer("Hello?")


@pytest.mark.maas_training(base="tiny")
def test_it_works_with_real_training(maas_server, tmp_path):
    rows = tmp_path / "train.jsonl"
    rows.write_text("".join(DATA.read_text("utf-8").splitlines(keepends=True)[:24]), "utf-8")
    name = support_bot.prepare(rows)
    job = maas_server.client().jobs.get(name)
    assert job.succeeded
    assert "simulated" not in job.properties
