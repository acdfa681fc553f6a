"""The rules for jobs: states, names, crashes, deletion. No HTTP, no process."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.job_spec import DataRef, JobRef, JobSpec, NewJob
from maas_client.local.resources.job_states import (
    ACTIVE_STATES,
    TERMINAL_STATES,
    TRANSITIONS,
    can_transition,
)
from maas_client.local.resources.jobs import Jobs
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import MetricPoint, Store


@pytest.fixture
def room(tmp_path):
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


def states(store, own):
    return [e["state"] for e in store.read.events(own) if e["kind"] == "status"]


def run_to(jobs, state):
    for step in ("Preparing", "Running", "Finalizing")[
        : ["Preparing", "Running", "Finalizing"].index(state) + 1
    ]:
        assert jobs.advance(REF, step)


def test_a_job_goes_its_whole_way_and_registers_its_model(room):
    jobs, store, _ = room
    fact, new = jobs.create("w", new_job())
    assert (new, fact.state) == (True, "NotStarted")
    assert jobs.list_queued() == [REF]
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


def test_versions_of_a_model_count_up(room):
    jobs, *_ = room
    for n in ("1", "2"):
        jobs.create("w", new_job(f"j{n}"))
        ref = JobRef("w", f"j{n}")
        jobs.start_attempt(ref)
        for step in ("Preparing", "Running", "Finalizing"):
            jobs.advance(ref, step)
        jobs.complete(ref, {})
        assert jobs.get(ref).body["model"]["version"] == n


def test_the_same_name_with_the_same_content_is_the_same_job(room):
    jobs, *_ = room
    first, _ = jobs.create("w", new_job(display="one"))
    again, new = jobs.create("w", new_job("J1", display="two"))
    assert not new
    assert again.body["id"] == first.body["id"]
    assert again.body["request"]["properties"]["displayName"] == "two"
    assert len(jobs.list_queued()) == 1


def test_the_same_name_with_another_content_is_refused(room):
    jobs, *_ = room
    jobs.create("w", new_job(fixed={"fineTuningDetails": 1}))
    with pytest.raises(ApiError) as refused:
        jobs.create("w", new_job(fixed={"fineTuningDetails": 2}))
    assert (refused.value.status, refused.value.code) == (409, "UserError")
    assert "fineTuningDetails" in refused.value.message


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "a b", "a" * 256, "a\n", "ä", "a?b"])
def test_names_that_no_id_can_hold_are_refused(room, name):
    jobs, *_ = room
    with pytest.raises(ApiError):
        jobs.create("w", new_job(name))
    assert jobs.list_page("w", None, 10) == []


def test_a_waiting_job_is_cancelled_at_once(room):
    jobs, *_ = room
    jobs.create("w", new_job())
    assert jobs.cancel(REF) == "Canceled"
    assert jobs.start_attempt(REF) is None
    assert jobs.cancel(REF) == "Canceled"  # again is no error


@pytest.mark.parametrize("state", ["Preparing", "Running"])
def test_a_running_job_is_asked_first(room, state):
    jobs, *_ = room
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


def test_a_finalizing_job_is_not_cancelled(room):
    jobs, *_ = room
    jobs.create("w", new_job())
    jobs.start_attempt(REF)
    run_to(jobs, "Finalizing")
    assert jobs.cancel(REF) == "Finalizing"


def test_a_dead_worker_is_replaced_twice_and_then_the_job_fails(room):
    jobs, store, _ = room
    own = jobs.create("w", new_job())[0].body["id"]
    for _ in range(2):
        jobs.start_attempt(REF)
        jobs.record_crash(REF, "signal SIGKILL", 3)
        assert jobs.get(REF).state == "Queued"
    jobs.start_attempt(REF)
    jobs.record_crash(REF, "signal SIGKILL", 3)
    job = jobs.get(REF)
    assert job.state == "Failed"
    assert "died 3 times" in job.body["error"]["message"]
    assert "SIGKILL" in job.body["error"]["message"]
    assert [e["level"] for e in store.read.events(own) if e["kind"] == "message"] == ["warning"] * 2


def test_a_dead_server_costs_no_attempt(room):
    jobs, *_ = room
    jobs.create("w", new_job())
    for _ in range(5):
        jobs.start_attempt(REF)
        run_to(jobs, "Running")
        jobs.recover()
        assert jobs.get(REF).state == "Queued"
    jobs.start_attempt(REF)
    jobs.record_crash(REF, "signal SIGKILL", 3)
    assert jobs.get(REF).state == "Queued"


def test_recover_ends_what_was_being_cancelled(room):
    jobs, *_ = room
    jobs.create("w", new_job())
    jobs.start_attempt(REF)
    jobs.cancel(REF)
    jobs.recover()
    assert jobs.get(REF).state == "Canceled"


def test_a_running_job_rests_and_goes_on(room):
    jobs, store, _ = room
    own = jobs.create("w", new_job())[0].body["id"]
    with pytest.raises(ApiError, match="Only a running job can be paused: it is NotStarted"):
        jobs.pause(REF)
    jobs.start_attempt(REF)
    run_to(jobs, "Running")
    with pytest.raises(ApiError, match="Only a paused job can be resumed: it is Running"):
        jobs.resume(REF)
    assert jobs.pause(REF) == "PauseRequested"
    assert jobs.pause(REF) == "PauseRequested"  # again is no error
    with pytest.raises(ApiError, match="it is Running"):
        jobs.resume(REF)  # its worker still writes
    jobs.mark_stopped(REF)
    assert jobs.get(REF).state == jobs.pause(REF) == "Paused"
    jobs.recover()
    assert jobs.get(REF).state == "Paused"
    assert jobs.list_queued() == []
    jobs.resume(REF)
    assert jobs.list_queued() == [REF]
    jobs.start_attempt(REF)
    run_to(jobs, "Running")
    jobs.pause(REF)
    assert jobs.advance(REF, "Finalizing"), "it was its last step"
    jobs.complete(REF, {})
    assert states(store, own)[-1] == "Completed"


def test_a_job_that_was_to_be_paused_rests_though_its_worker_or_server_dies(room):
    jobs, *_ = room
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


def test_a_paused_job_is_cancelled_at_once_and_a_pausing_one_when_it_rests(room):
    jobs, *_ = room
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


def test_a_job_holds_its_data_until_it_is_deleted(room):
    jobs, store, files = room
    with files.draft() as draft:
        content = draft.commit(durable=False)
    own = jobs.create("w", new_job(content=content))[0].body["id"]
    (files.run_folder(own) / "log.txt").write_text("x")
    jobs.record_progress(
        own, [MetricPoint("loss", 1, "t", 1.0)], [{"kind": "message", "message": "m"}]
    )
    with pytest.raises(ApiError, match="Cancel it"):
        jobs.delete(REF)
    jobs.cancel(REF)
    assert jobs.delete(REF)
    assert not files.content_path(content).exists()
    assert not (files._runs / own).exists()
    assert store.read.points(own) == store.read.events(own) == []
    assert not jobs.delete(REF)
    assert store.read.referenced_contents() == set()


def test_a_model_outlives_its_job(room):
    jobs, _, files = room
    own = jobs.create("w", new_job())[0].body["id"]
    jobs.start_attempt(REF)
    run_to(jobs, "Finalizing")
    (files.run_folder(own) / "out").mkdir()
    jobs.complete(REF, {})
    jobs.delete(REF)
    assert (files._runs / own / "out").exists()


def test_retention_forgets_old_jobs(room):
    jobs, *_ = room
    jobs.create("w", new_job())
    jobs.create("w", new_job("j2"))
    jobs.cancel(REF)
    assert jobs.delete_expired(1.0) == 0
    assert jobs.delete_expired(0.0) == 1
    assert [f.body["name"] for f in jobs.list_page("w", None, 9)] == ["j2"]


def test_the_table_of_states_is_sound():
    assert {s for s, after in TRANSITIONS.items() if not after} == TERMINAL_STATES
    assert {s for after in TRANSITIONS.values() for s in after} <= set(TRANSITIONS)
    for state in ACTIVE_STATES:  # every live state can end
        reach, todo = set(), {state}
        while todo:
            reach |= todo
            todo = set(itertools.chain(*(TRANSITIONS[s] for s in todo))) - reach
        assert reach & TERMINAL_STATES


ACTS = (
    "began",
    "Preparing",
    "Running",
    "Finalizing",
    "complete",
    "fail",
    "cancel",
    "crash",
    "recover",
    "queue",
    "pause",
    "rest",
    "resume",
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(ACTS), max_size=14))
def test_no_order_of_calls_breaks_the_state_machine(tmp_path_factory, acts):
    folder = tmp_path_factory.mktemp("s")
    store = Store(folder / "facts.db", durable=False)
    jobs = Jobs(store, FileStore(folder))
    own = jobs.create("w", new_job())[0].body["id"]
    for act in acts:
        match act:
            case "began":
                jobs.start_attempt(REF)
            case "complete":
                jobs.complete(REF, {})
            case "fail":
                jobs.fail(REF, "ServiceError", "m")
            case "cancel":
                jobs.cancel(REF)
            case "crash":
                jobs.record_crash(REF, "r", 3)
            case "recover":
                jobs.recover()
            case "queue":
                jobs.mark_queued(REF)
            case "pause" | "resume":
                with suppress(ApiError):
                    getattr(jobs, act)(REF)
            case "rest":
                jobs.mark_stopped(REF)
            case step:
                jobs.advance(REF, step)
    seen = states(store, own)
    assert all(can_transition(a, b) for a, b in itertools.pairwise(seen)), seen
    assert seen[-1] == jobs.get(REF).state
    assert (store.read.get("model", "w", "m/1") is not None) == (seen[-1] == "Completed")
    store.close()
