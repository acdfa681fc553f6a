"""Measure the local server with many jobs that have many events each.

    python -m tests.faults.many_jobs --jobs 5000 --events 5000

Prints, in milliseconds: how long the server takes to start, and the median of a GET, of a page of each list,
and of a page of a job's events.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from maas_client.local.embedded_server import LocalServer, serve
from maas_client.local.state.store import Store
from maas_client.wire.azureml import WORKSPACE_PATH
from maas_client.wire.operation import expand_path

_ROW = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}


def make_state(folder: Path, jobs: int, events: int) -> None:
    """Write a state directory with ``jobs`` completed jobs per API, each with about ``events`` events."""
    data = folder.with_name("train.jsonl")
    data.write_text((json.dumps(_ROW) + "\n") * 12)
    with serve(engine="instant", state_dir=folder) as server:
        for dialect in ("azureml", "foundry"):
            with server.client(dialect=dialect) as client:  # type: ignore[arg-type]
                model = "Phi-4-mini-instruct" if dialect == "azureml" else "Ministral-3B"
                client.jobs.wait(client.jobs.create(model=model, training_data=data), timeout=60)
    store = Store(folder / "facts.db", durable=False)
    for template in store.read.in_states("job", ("Completed",)):
        scope, owner = template.body["scope"], template.body["id"]
        event = store.read.events(owner)[-1] | {"kind": "message", "message": "x" * 60}
        (point,) = [p for p in store.read.points(owner) if p.name == "train_loss"][-1:]
        with store.write() as writer:
            for number in range(jobs):
                job_id = f"{number:032x}"
                name = f"ftjob-{job_id}" if template.body["dialect"] == "foundry" else f"j{number}"
                body = {**template.body, "id": job_id, "name": name}
                writer.put("job", scope, name, body, "Completed")
                if template.body["dialect"] == "foundry":
                    continue  # both jobs have the same id, hence the same events
                numbers = range(1, events // 2 + 1)
                writer._db.executemany(
                    "INSERT INTO events (owner, seq, body) VALUES (?,?,?)",
                    [(job_id, seq, json.dumps(event)) for seq in numbers],
                )
                writer.add_points(job_id, [point._replace(step=step) for step in numbers])
    store.close()


def measure(folder: Path, jobs: int, repeats: int = 5) -> dict[str, float]:
    """Start a server on the state directory and return milliseconds per request."""
    begin = time.perf_counter()
    server = serve(engine="instant", state_dir=folder)
    with server:
        figures = {"start": (time.perf_counter() - begin) * 1000}
        with httpx.Client(
            headers={"Authorization": "Bearer x"}, timeout=120, trust_env=False
        ) as http:
            arm = _workspace_url(server)
            version = {"api-version": "2024-10-01-preview"}
            middle = f"ftjob-{jobs // 2:032x}"
            foundry = f"{server.url}/openai/v1/fine_tuning/jobs"
            requests: dict[str, Callable[[], httpx.Response]] = {
                "get": lambda: http.get(f"{arm}/jobs/j{jobs // 2}", params=version),
                "list": lambda: http.get(f"{arm}/jobs", params=version),
                "list_models": lambda: http.get(f"{arm}/models", params=version),
                "foundry_get": lambda: http.get(f"{foundry}/{middle}"),
                "foundry_list": lambda: http.get(foundry, params={"limit": 100, "after": middle}),
                "foundry_events": lambda: http.get(f"{foundry}/{middle}/events"),
            }
            for name, request in requests.items():
                figures[name] = _median_ms(request, repeats)
            begin, pages = time.perf_counter(), 0
            url = f"{arm}/jobs?api-version=2024-10-01-preview"
            while url:
                page = http.get(url).json()
                url, pages = page["nextLink"], pages + 1
            figures["list_all"] = (time.perf_counter() - begin) * 1000
            figures["list_all_pages"] = pages
    return {name: round(value, 1) for name, value in figures.items()}


def _workspace_url(server: LocalServer) -> str:
    with server.client() as client:
        return server.url + expand_path(WORKSPACE_PATH, client._io.scope.values)


def _median_ms(request: Callable[[], httpx.Response], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        response = request()
        times.append((time.perf_counter() - begin) * 1000)
        assert response.status_code == 200, response.text
    return statistics.median(times)


def main() -> None:
    """Measure with the numbers of the command line, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--events", type=int, default=5000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "state")
        make_state(state, args.jobs, args.events)
        print(json.dumps({"jobs": args.jobs, "events": args.events, **measure(state, args.jobs)}))


if __name__ == "__main__":
    main()
