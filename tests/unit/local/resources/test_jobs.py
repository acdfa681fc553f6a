"""Jobs: states, names, crashes, deletion. Without HTTP and processes."""

from __future__ import annotations

import itertools

import pytest

from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.job_states import (
    ACTIVE_STATES,
    TERMINAL_STATES,
    TRANSITIONS,
)
from maas_client.local.resources.jobs import RESUMABLE, DataRef, JobRef, Jobs, JobSpec, NewJob
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import MetricPoint, Store
from tests.faults import state_machines


@pytest.fixture
def setup(tmp_path):
    store = Store(tmp_path / "facts.db", durable=False)
    files = FileStore(tmp_path)
    yield Jobs(store, files), store, files
    store.close()


def new_job(name="j1", *, fixed=None, content=None, display="one"):
    return NewJob(
        name=name,
        request={"properties": {"displayName": display}},
        immutable=fixed or {"fineTuningDetails": 1},
        spec=JobSpec(model="Phi-3-mini-4k-instruct", train="c/b", output="m"),
        train=DataRef("azureml://x", content),
        validation=None,
        workspace={"subscription": "s", "resource_group": "g", "name": "w"},
        base={"name": "tiny"},
    )


REF = JobRef("w", "j1")


def states(store, job_id):
    return [e["state"] for e in store.read.events(job_id) if e["kind"] == "status"]


def run_to(jobs, state):
    for step in ("Preparing", "Running", "Finalizing")[
        : ["Preparing", "Running", "Finalizing"].index(state) + 1
    ]:
        assert jobs.advance(REF, step)


def test_completed_job_registers_its_model(setup):
    jobs, store, _ = setup
    record, new = jobs.create("w", new_job())
    assert (new, record.state) == (True, "NotStarted")
    assert jobs.list_queued(9) == [REF]
    assert jobs.start_attempt(REF).body["attempts"] == 1
    run_to(jobs, "Finalizing")
    jobs.complete(REF, {"properties": {"steps": 3}})
    done = jobs.get(REF)
    assert done.state == "Completed"
    assert done.body["model"] == {"name": "m", "version": "1"}
    model = store.read.get("model", "w", "m/1")
    assert (model.body["job"], model.body["folder"]) == ("j1", done.body["id"])
    assert states(store, done.body["id"]) == [
        "NotStarted", "Starting", "Preparing", "Running", "Finalizing", "Completed",
    ]  # fmt: skip


def test_model_versions_count_up(setup):
    jobs, *_ = setup
    for n in ("1", "2"):
        jobs.create("w", new_job(f"j{n}"))
        ref = JobRef("w", f"j{n}")
        jobs.start_attempt(ref)
        for step in ("Preparing", "Running", "Finalizing"):
            jobs.advance(ref, step)
        jobs.complete(ref, {})
        assert jobs.get(ref).body["model"]["version"] == n


def test_same_name_and_content_returns_the_existing_job(setup):
    jobs, *_ = setup
    first, _ = jobs.create("w", new_job(display="one"))
    again, new = jobs.create("w", new_job("J1", display="two"))
    assert not new
    assert again.body["id"] == first.body["id"]
    assert again.body["request"]["properties"]["displayName"] == "two"
    assert len(jobs.list_queued(9)) == 1


def test_same_name_with_other_content_is_refused(setup):
    jobs, *_ = setup
    jobs.create("w", new_job(fixed={"fineTuningDetails": 1}))
    with pytest.raises(ApiError) as refused:
        jobs.create("w", new_job(fixed={"fineTuningDetails": 2}))
    assert (refused.value.status, refused.value.code) == (409, "UserError")
    assert "fineTuningDetails" in refused.value.message


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "a b", "a" * 256, "a\n", "ä", "a?b"])
def test_invalid_names_are_refused(setup, name):
    jobs, *_ = setup
    with pytest.raises(ApiError):
        jobs.create("w", new_job(name))
    assert jobs.list_page("w", None, 10) == []


def test_queued_job_is_cancelled_at_once(setup):
    jobs, *_ = setup
    jobs.create("w", new_job())
    assert jobs.cancel(REF) == "Canceled"
    assert jobs.start_attempt(REF) is None
    assert jobs.cancel(REF) == "Canceled"  # again is no error


@pytest.mark.parametrize("state", ["Preparing", "Running"])
def test_running_job_goes_through_cancel_requested(setup, state):
    jobs, *_ = setup
    jobs.create("w", new_job())
    jobs.start_attempt(REF)
    run_to(jobs, state)
    assert jobs.cancel(REF) == "CancelRequested"
    assert not jobs.advance(REF, "Finalizing")
    jobs.complete(REF, {})  # a result that comes too late registers nothing
    assert jobs.get(REF).state == "CancelRequested"
    jobs.fail(REF, "ServiceError", "killed")
    assert jobs.get(REF).state == "Canceled"
    assert "error" not in jobs.get(REF).body


def test_finalizing_job_is_not_cancelled(setup):
    jobs, *_ = setup
    jobs.create("w", new_job())
    jobs.start_attempt(REF)
    run_to(jobs, "Finalizing")
    assert jobs.cancel(REF) == "Finalizing"


def test_job_fails_after_the_third_crash_of_its_worker(setup):
    jobs, store, _ = setup
    job_id = jobs.create("w", new_job())[0].body["id"]
    for _ in range(2):
        jobs.start_attempt(REF)
        jobs.record_crash(REF, "signal SIGKILL", 3)
        assert jobs.get(REF).state == "Queued"
    jobs.start_attempt(REF)
    jobs.record_crash(REF, "signal SIGKILL", 3)
    job = jobs.get(REF)
    assert job.state == "Failed"
    assert "crashed 3 times" in job.body["error"]["message"]
    assert "SIGKILL" in job.body["error"]["message"]
    assert [e["level"] for e in store.read.events(job_id) if e["kind"] == "message"] == [
        "warning"
    ] * 2


@pytest.mark.parametrize("code", ["ServiceError", "UserError"])
def test_job_is_resumed_after_a_failure_of_the_machine_only(setup, code):
    jobs, store, _ = setup
    job_id = jobs.create("w", new_job())[0].body["id"]
    for _ in range(2):  # a job that is resumed has all its attempts again
        jobs.start_attempt(REF)
        jobs.record_crash(REF, "signal SIGKILL", 3)
    jobs.start_attempt(REF)
    jobs.fail(REF, code, "The disk is full.")
    if code == "UserError":
        with pytest.raises(ApiError, match=f"{RESUMABLE}: it is Failed"):
            jobs.resume(REF)
        return
    jobs.resume(REF)
    job = jobs.get(REF)
    assert job.state == "Queued"
    assert job.body["crashes"] == 0
    assert "error" not in job.body
    assert "ended" not in job.body
    assert states(store, job_id)[-2:] == ["Failed", "Queued"]
    assert jobs.delete_expired(0) == 0


def test_server_restart_does_not_count_as_a_crash(setup):
    jobs, *_ = setup
    jobs.create("w", new_job())
    for _ in range(5):
        jobs.start_attempt(REF)
        run_to(jobs, "Running")
        jobs.recover()
        assert jobs.get(REF).state == "Queued"
    jobs.start_attempt(REF)
    jobs.record_crash(REF, "signal SIGKILL", 3)
    assert jobs.get(REF).state == "Queued"


def test_recover_cancels_a_job_that_was_being_cancelled(setup):
    jobs, *_ = setup
    jobs.create("w", new_job())
    jobs.start_attempt(REF)
    jobs.cancel(REF)
    jobs.recover()
    assert jobs.get(REF).state == "Canceled"


def test_job_pauses_and_resumes(setup):
    jobs, store, _ = setup
    job_id = jobs.create("w", new_job())[0].body["id"]
    with pytest.raises(ApiError, match="Only a running job can be paused: it is NotStarted"):
        jobs.pause(REF)
    jobs.start_attempt(REF)
    run_to(jobs, "Running")
    with pytest.raises(ApiError, match=f"{RESUMABLE}: it is Running"):
        jobs.resume(REF)
    assert jobs.pause(REF) == "PauseRequested"
    assert jobs.pause(REF) == "PauseRequested"  # again is no error
    with pytest.raises(ApiError, match="it is Running"):
        jobs.resume(REF)  # its worker still writes
    jobs.mark_stopped(REF)
    assert jobs.get(REF).state == jobs.pause(REF) == "Paused"
    jobs.recover()
    assert jobs.get(REF).state == "Paused"
    assert jobs.list_queued(9) == []
    jobs.resume(REF)
    assert jobs.list_queued(9) == [REF]
    jobs.start_attempt(REF)
    run_to(jobs, "Running")
    jobs.pause(REF)
    assert jobs.advance(REF, "Finalizing"), "it was its last step"
    jobs.complete(REF, {})
    assert states(store, job_id)[-1] == "Completed"


def test_pausing_job_is_paused_when_its_worker_or_server_crashes(setup):
    jobs, *_ = setup
    jobs.create("w", new_job())
    jobs.start_attempt(REF)
    run_to(jobs, "Running")
    jobs.pause(REF)
    jobs.record_crash(REF, "signal SIGKILL", 3)
    assert jobs.get(REF).state == "Paused"
    jobs.resume(REF)
    jobs.start_attempt(REF)
    run_to(jobs, "Running")
    jobs.pause(REF)
    jobs.recover()
    assert jobs.get(REF).state == "Paused"


def test_paused_job_is_cancelled_at_once_and_a_pausing_job_when_its_worker_stops(setup):
    jobs, *_ = setup
    for name in ("j1", "j2"):
        jobs.create("w", new_job(name))
        ref = JobRef("w", name)
        jobs.start_attempt(ref)
        jobs.advance(ref, "Preparing")
        jobs.advance(ref, "Running")
        jobs.pause(ref)
    jobs.mark_stopped(REF)
    assert jobs.cancel(REF) == "Canceled"
    assert jobs.cancel(JobRef("w", "j2")) == "CancelRequested"
    jobs.mark_stopped(JobRef("w", "j2"))
    assert jobs.get(JobRef("w", "j2")).state == "Canceled"


def test_data_is_referenced_until_the_job_is_deleted(setup):
    jobs, store, files = setup
    with files.draft() as draft:
        content = draft.commit(durable=False)
    job_id = jobs.create("w", new_job(content=content))[0].body["id"]
    (files.run_folder(job_id) / "log.txt").write_text("x")
    jobs.record_progress(
        job_id, [MetricPoint("loss", 1, "t", 1.0)], [{"kind": "message", "message": "m"}]
    )
    with pytest.raises(ApiError, match="Cancel it"):
        jobs.delete(REF)
    jobs.cancel(REF)
    assert jobs.delete(REF)
    assert not files.content_path(content).exists()
    assert not (files._runs / job_id).exists()
    assert store.read.points(job_id) == store.read.events(job_id) == []
    assert not jobs.delete(REF)
    assert store.read.referenced_contents() == set()


def test_model_stays_when_its_job_is_deleted(setup):
    jobs, _, files = setup
    job_id = jobs.create("w", new_job())[0].body["id"]
    jobs.start_attempt(REF)
    run_to(jobs, "Finalizing")
    (files.run_folder(job_id) / "out").mkdir()
    jobs.complete(REF, {})
    jobs.delete(REF)
    assert (files._runs / job_id / "out").exists()


def test_retention_deletes_old_jobs(setup):
    jobs, *_ = setup
    jobs.create("w", new_job())
    jobs.create("w", new_job("j2"))
    jobs.cancel(REF)
    assert jobs.delete_expired(1.0) == 0
    assert jobs.delete_expired(0.0) == 1
    assert [f.body["name"] for f in jobs.list_page("w", None, 9)] == ["j2"]


def test_every_active_state_leads_to_a_terminal_one():
    assert set(ACTIVE_STATES) == set(TRANSITIONS) - TERMINAL_STATES
    assert [s for s in TERMINAL_STATES if TRANSITIONS[s]] == ["Failed"], "only a failure is resumed"
    assert {s for following in TRANSITIONS.values() for s in following} <= set(TRANSITIONS)
    for state in ACTIVE_STATES:  # every active state can end
        reachable, new = set(), {state}
        while new:
            reachable |= new
            new = set(itertools.chain(*(TRANSITIONS[s] for s in new))) - reachable
        assert reachable & TERMINAL_STATES


def test_random_operations_restarts_and_kills_agree_with_a_table_of_moves():
    state_machines.run(state_machines.JobMachine, examples=25)
