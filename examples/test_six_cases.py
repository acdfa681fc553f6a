"""Six cases of a job on Azure, each as a test of an application. Hours of Azure take no time here.

pytest examples/test_six_cases.py
"""

import pytest
import support_bot

import maas_client as maas

HOUR_S = 3600


@pytest.fixture
def training_file(tmp_path):
    chat = '{"messages": [{"role": "user", "content": "Say 7"}, {"role": "assistant", "content": "7!"}]}\n'
    path = tmp_path / "train.jsonl"
    path.write_text(chat * 12)
    return path


def test_happy(maas_server, training_file):
    maas_server.control.next_job(running_s=3 * HOUR_S)
    support_bot.prepare(training_file)
    assert support_bot.answer("Say 7") == "7!"
    (request,) = maas_server.requests.of("jobs.create")
    assert "Phi-4-mini-instruct" in request.json["properties"]["fineTuningDetails"]["model"]["uri"]


def test_failing(maas_server, training_file):
    maas_server.control.next_job(running_s=HOUR_S, error="The training data has no valid rows")
    with pytest.raises(maas.JobFailedError, match="no valid rows"):
        support_bot.prepare(training_file)


def test_queued(maas_server, training_file):
    start = maas_server.control.now
    maas_server.control.next_job(queued_s=24 * HOUR_S)
    support_bot.prepare(training_file)
    assert (maas_server.control.now - start).days == 1


def test_too_many_requests(maas_server, training_file):
    maas_server.control.fail("jobs.get", status=429, retry_after=30)
    support_bot.prepare(training_file)
    assert maas_server.faults.count == 1


@pytest.mark.maas_environment("azure")
def test_token_that_expires(maas_server, training_file):
    maas_server.control.next_job(running_s=3 * HOUR_S)
    maas_server.control.fail("jobs.get", expired_token=True, after_s=HOUR_S)
    support_bot.prepare(training_file)
    assert maas_server.faults.count == 1
    assert len(maas_server.requests.of("login.token")) > 1


def test_deployment_that_is_not_ready(maas_server):
    maas_server.control.add_deployment(support_bot.DEPLOYMENT, status="NotReady", ready_in_s=600)
    assert "not available" in support_bot.answer("What is 1 plus one?")
    maas_server.control.advance(600)
    assert support_bot.answer("What is 1 plus one?") == "1 plus one is 2."
