"""Random sequences of operations on the store and on jobs, compared with simple models.

    python -m tests.faults.state_machines --examples 2000 --seed 1

Between two operations the store may be closed and opened again, or copied as a kill leaves it (the files
without a close) and opened from the copy. A difference is printed with the shortest sequence that shows it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.jobs import DataRef, JobRef, Jobs, JobSpec, NewJob
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import MetricPoint, Store

SCOPES = st.sampled_from(["w1", "w2"])
KEYS = st.sampled_from(["a", "b", "ab", "é", "a_", "z%"])
STATES = st.sampled_from(["Queued", "Running", None])
OWNERS = st.sampled_from(["o1", "o2"])


class StateFolder(RuleBasedStateMachine):
    """A state directory that can be reopened after a close or a kill."""

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self._copies = 0
        self.folder = Path(self._temporary.name, "0")
        self.folder.mkdir()
        self.store = Store(self.folder / "facts.db", durable=True)
        self.after_open()

    def after_open(self) -> None:
        """Set up what uses the store."""

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store(self.folder / "facts.db", durable=True)
        self.after_open()

    @rule()
    def kill(self) -> None:
        self._copies += 1
        copy = Path(self._temporary.name, str(self._copies))
        shutil.copytree(self.folder, copy)
        self.store.close()
        self.folder = copy
        self.store = Store(copy / "facts.db", durable=True)
        self.after_open()

    def teardown(self) -> None:
        self.store.close()
        self._temporary.cleanup()


class StoreMachine(StateFolder):
    """The store against dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.next_seq = 1
        self.records: dict[tuple[str, str], tuple[int, str | None, int]] = {}
        self.events: dict[str, list[int]] = {"o1": [], "o2": []}
        self.points: dict[str, dict[tuple[str, int], float]] = {"o1": {}, "o2": {}}
        self.references: set[tuple[str, str]] = set()

    @rule(scope=SCOPES, key=KEYS, state=STATES, value=st.integers(0, 9))
    def put(self, scope: str, key: str, state: str | None, value: int) -> None:
        with self.store.write() as writer:
            writer.put("job", scope, key, {"n": value}, state)
        record = self.store.read.get("job", scope, key)
        assert record is not None
        old = self.records.get((scope, key))
        assert record.seq == old[0] if old else record.seq >= self.next_seq
        self.next_seq = max(self.next_seq, record.seq + 1)
        self.records[scope, key] = (record.seq, state, value)

    @rule(scope=SCOPES, key=KEYS)
    def delete(self, scope: str, key: str) -> None:
        with self.store.write() as writer:
            assert writer.delete("job", scope, key) is ((scope, key) in self.records)
        self.records.pop((scope, key), None)

    @rule(scope=SCOPES, key=KEYS, owner=OWNERS)
    def roll_back(self, scope: str, key: str, owner: str) -> None:
        with suppress(KeyError), self.store.write() as writer:
            writer.put("job", scope, key, {"n": -1}, "Lost")
            writer.delete_history(owner)
            writer.remove_references(owner)
            raise KeyError

    @rule(owner=OWNERS, value=st.integers(0, 99))
    def add_event(self, owner: str, value: int) -> None:
        with self.store.write() as writer:
            writer.add_event(owner, {"n": value})
        self.events[owner].append(value)

    @rule(owner=OWNERS, step=st.integers(0, 3), value=st.floats(-1, 1))
    def add_point(self, owner: str, step: int, value: float) -> None:
        with self.store.write() as writer:
            writer.add_points(owner, [MetricPoint("loss", step, "2026", value)])
        self.points[owner]["loss", step] = value

    @rule(owner=OWNERS)
    def delete_history(self, owner: str) -> None:
        with self.store.write() as writer:
            writer.delete_history(owner)
        self.events[owner], self.points[owner] = [], {}

    @rule(owner=OWNERS, content=st.sampled_from(["c1", "c2"]))
    def add_reference(self, owner: str, content: str) -> None:
        with self.store.write() as writer:
            writer.add_reference(content, owner)
        self.references.add((content, owner))

    @rule(owner=OWNERS)
    def remove_references(self, owner: str) -> None:
        with self.store.write() as writer:
            free = writer.remove_references(owner)
        removed = {c for c, o in self.references if o == owner}
        self.references = {(c, o) for c, o in self.references if o != owner}
        assert sorted(free) == sorted(removed - {c for c, _ in self.references})

    @invariant()
    def same(self) -> None:
        read = self.store.read
        for scope in ("w1", "w2"):
            wanted = sorted(
                (seq, key, state, {"n": n})
                for (s, key), (seq, state, n) in self.records.items()
                if s == scope
            )
            assert [tuple(r) for r in read.oldest("job", scope)] == wanted
            assert [tuple(r) for r in read.newest("job", scope)] == wanted[::-1]
            by_key = sorted(wanted, key=lambda row: row[1].encode())
            assert [tuple(r) for r in read.by_key("job", scope, "")] == by_key
            with_a = [row for row in wanted[::-1] if row[1].startswith("a")]
            assert [tuple(r) for r in read.with_prefix("job", scope, "a")] == with_a
        running = sorted(seq for seq, state, _ in self.records.values() if state == "Running")
        assert [r.seq for r in read.in_states("job", ("Running",))] == running
        for owner in ("o1", "o2"):
            events = [{"n": n, "seq": i} for i, n in enumerate(self.events[owner], 1)]
            assert read.events(owner) == events
            values = {(p.name, p.step): p.value for p in read.points(owner)}
            assert values == self.points[owner]
        assert read.referenced_contents() == {c for c, _ in self.references}


_NAMES = ("j1", "j2")
_MOVES: Mapping[str, Mapping[str, str]] = {
    "start": dict.fromkeys(("NotStarted", "Queued"), "Starting"),
    "prepare": {"Starting": "Preparing"},
    "run": {"Preparing": "Running"},
    "finalize": dict.fromkeys(("Running", "PauseRequested"), "Finalizing"),
    "complete": {"Finalizing": "Completed"},
    "pause": {"Running": "PauseRequested"},
    "stop": {"PauseRequested": "Paused", "CancelRequested": "Canceled"},
    "cancel": {
        **dict.fromkeys(("NotStarted", "Queued", "Paused"), "Canceled"),
        **dict.fromkeys(("Starting", "Preparing", "Running", "PauseRequested"), "CancelRequested"),
    },
    "restart": {
        **dict.fromkeys(("Starting", "Preparing", "Running", "Finalizing"), "Queued"),
        "PauseRequested": "Paused",
        "CancelRequested": "Canceled",
    },
    "crash": {
        **dict.fromkeys(("Starting", "Preparing", "Running", "Finalizing"), "Queued"),
        "PauseRequested": "Paused",
        "CancelRequested": "Canceled",
    },
}
"""What each operation does to a job, by its state; a state that is missing stays as it is."""
_ENDED = ("Completed", "Failed", "Canceled")


class _Job:
    """What is expected of one job."""

    def __init__(self, job_id: str, model: str, content: str) -> None:
        self.id = job_id
        self.model = model
        self.content = content
        self.state = "NotStarted"
        self.crashes = 0
        self.error: str | None = None

    def move(self, operation: str) -> None:
        self.state = _MOVES[operation].get(self.state, self.state)


class JobMachine(StateFolder):
    """Jobs against a table of moves: create, cancel, pause, resume, delete, crash, restart and kill."""

    def __init__(self) -> None:
        self.jobs_by_name: dict[str, _Job] = {}
        self.models = 0
        super().__init__()

    def after_open(self) -> None:
        self.files = FileStore(self.folder)
        self.jobs = Jobs(self.store, self.files)
        self.jobs.recover()
        for job in self.jobs_by_name.values():
            job.move("restart")

    def _ref(self, name: str) -> JobRef:
        return JobRef("w", name)

    @rule(name=st.sampled_from(_NAMES), model=st.sampled_from("12"))
    def create(self, name: str, model: str) -> None:
        existing = self.jobs_by_name.get(name)
        with self.files.draft() as draft:
            draft.write(b"data")
            content = draft.commit(durable=False)
        new = NewJob(
            name=name,
            request={"properties": {"displayName": model}},
            immutable={"model": model},
            spec=JobSpec(model="Phi-3-mini-4k-instruct", train="c/b", output="m"),
            train=DataRef("azureml://x", content),
            validation=None,
            workspace={"subscription": "s", "resource_group": "g", "name": "w"},
            base={"name": "tiny"},
        )
        if existing is not None and existing.model != model:
            self._refused(self.jobs.create, "w", new)
            return
        record, is_new = self.jobs.create("w", new)
        assert is_new is (existing is None)
        if is_new:
            self.jobs_by_name[name] = _Job(record.body["id"], model, content)
        else:
            assert existing is not None
            assert record.body["id"] == existing.id, "the same call makes no second job"

    @precondition(lambda self: self.jobs_by_name)
    @rule(data=st.data(), operation=st.sampled_from([*_MOVES, "fail", "resume", "delete"]))
    def change(self, data: Any, operation: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.jobs_by_name)))
        getattr(self, f"_{operation}", lambda *_: None)(self._ref(name), self.jobs_by_name[name])

    def _start(self, ref: JobRef, job: _Job) -> None:
        self.jobs.start_attempt(ref)
        job.move("start")

    def _prepare(self, ref: JobRef, job: _Job) -> None:
        self.jobs.advance(ref, "Preparing")
        job.move("prepare")

    def _run(self, ref: JobRef, job: _Job) -> None:
        if job.state == "Preparing":
            self.jobs.advance(ref, "Running")
        job.move("run")

    def _finalize(self, ref: JobRef, job: _Job) -> None:
        self.jobs.advance(ref, "Finalizing")
        job.move("finalize")

    def _complete(self, ref: JobRef, job: _Job) -> None:
        self.models += job.state == "Finalizing"
        self.jobs.complete(ref, {})
        job.move("complete")

    def _pause(self, ref: JobRef, job: _Job) -> None:
        if job.state in ("Running", "PauseRequested", "Paused"):
            self.jobs.pause(ref)
        else:
            self._refused(self.jobs.pause, ref)
        job.move("pause")

    def _stop(self, ref: JobRef, job: _Job) -> None:
        self.jobs.mark_stopped(ref)
        job.move("stop")

    def _cancel(self, ref: JobRef, job: _Job) -> None:
        self.jobs.cancel(ref)
        job.move("cancel")

    def _crash(self, ref: JobRef, job: _Job) -> None:
        self.jobs.record_crash(ref, "signal SIGKILL", 3)
        counts = job.state in (*_MOVES["restart"], "PauseRequested")
        if counts and job.state != "CancelRequested":
            job.crashes += 1
            if job.crashes == 3:
                job.state, job.error = "Failed", "ServiceError"
                return
        job.move("crash")

    def _fail(self, ref: JobRef, job: _Job) -> None:
        code = "UserError" if ref.key == "j1" else "ServiceError"
        if job.state == "Paused":
            return  # no worker can report it
        self.jobs.fail(ref, code, "m")
        if job.state == "CancelRequested":
            job.state = "Canceled"
        elif job.state not in _ENDED:
            job.state, job.error = "Failed", code

    def _resume(self, ref: JobRef, job: _Job) -> None:
        if job.state == "Paused" or (job.state, job.error) == ("Failed", "ServiceError"):
            self.jobs.resume(ref)
            job.state, job.error, job.crashes = "Queued", None, 0
        else:
            self._refused(self.jobs.resume, ref)

    def _delete(self, ref: JobRef, job: _Job) -> None:
        if job.state not in _ENDED:
            self._refused(self.jobs.delete, ref)
            return
        assert self.jobs.delete(ref)
        del self.jobs_by_name[ref.key]
        assert not self.files.content_path(job.content).exists(), "the data was the job's only"
        assert self.store.read.events(job.id) == []

    @staticmethod
    def _refused(call: Any, *arguments: Any) -> None:
        with pytest.raises(ApiError) as caught:
            call(*arguments)
        assert caught.value.status == 409

    @invariant()
    def same(self) -> None:
        listed = {r.key: r for r in self.jobs.list_page("w", None, -1)}
        assert set(listed) == set(self.jobs_by_name), "no job is lost or doubled"
        for name, job in self.jobs_by_name.items():
            record = listed[name]
            assert (record.state, record.body["crashes"]) == (job.state, job.crashes)
            assert record.body.get("error", {}).get("code") == job.error
            assert ("ended" in record.body) is (job.state in _ENDED)
            last = [e for e in self.jobs.events(job.id) if e["kind"] == "status"][-1]
            assert last["state"] == job.state
            assert self.files.content_path(job.content).exists(), "the data is kept"
        assert len(self.store.read.all("model")) == self.models, "one model for each completed job"


MACHINES = (StoreMachine, JobMachine)


def run(machine: type[RuleBasedStateMachine], examples: int, seed_value: int | None = None) -> None:
    """Run random sequences; raises what hypothesis raises for the shortest one that fails."""
    options = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    factory: Any = machine
    if seed_value is not None:

        class Seeded(machine):  # type: ignore[misc, valid-type]
            pass

        factory = seed(seed_value)(Seeded)
    run_state_machine_as_test(factory, settings=options)


def main() -> None:
    """Run both machines with the numbers of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    for machine in MACHINES:
        run(machine, args.examples, args.seed)
        print(f"{machine.__name__}: {args.examples} sequences, no difference")


if __name__ == "__main__":
    main()
