"""Create many jobs through a proxy that loses answers, and count the jobs that exist.

    python -m tests.faults.create_soak --creates 10000 --dialect azureml --seed 1

Every create either returns its job or says that the outcome is unknown; then the same call is made again, as
the error advises. At the end there are exactly as many jobs as creates.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import maas_client as maas
from maas_client.local.embedded_server import serve
from maas_client.testing import Fault, FaultPlan
from tests.faults.proxy import FaultProxy

Dialect = Literal["azureml", "foundry"]
MODELS: dict[Dialect, str] = {"azureml": "Phi-4-mini-instruct", "foundry": "Ministral-3B"}
HTML = "<html>Sign in</html>"


def faults(dialect: Dialect) -> list[Fault]:
    """Return faults for about a third of the creates: half of them after the service has acted."""
    method, path = ("PUT", r"/jobs/[^/?]+\?") if dialect == "azureml" else ("POST", "/jobs$")
    plan = []
    for forward in (True, False):
        for number in (408, 409, 429, 500, 502, 503, 504):
            headers = {"Retry-After": "0"} if number in (429, 503) else {}
            if number == 409 and not forward:
                continue  # a conflict without a cause is a refusal
            plan.append(
                Fault(
                    method,
                    path,
                    times=None,
                    probability=0.02,
                    forward=forward,
                    status=number,
                    headers=headers,
                )
            )
        plan += [
            Fault(
                method, path, times=None, probability=0.02, forward=forward, status=200, body=body
            )
            for body in (HTML, "", "[]", "{}", '{"id": ')
        ]
        plan.append(
            Fault(method, path, times=None, probability=0.02, forward=forward, disconnect=True)
        )
    plan.append(Fault("GET", "/jobs", times=None, probability=0.01, forward=False, status=500))
    return plan


def run(creates: int, dialect: Dialect, seed: int, threads: int = 4) -> Counter[str]:
    """Create jobs with different inputs and return counts: unknown outcomes, jobs, doubled, missing."""
    counts: Counter[str] = Counter()
    # No job starts: a process for each of them would take far longer than its creation.
    with serve(engine="instant", max_jobs=0) as server, tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "train.jsonl")
        row = {
            "messages": [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "So."},
            ]
        }
        data.write_text(
            "".join(json.dumps(row).replace("Why", f"Why {n}") + "\n" for n in range(12))
        )
        with FaultProxy(server.url) as proxy, ThreadPoolExecutor(threads) as pool:
            with maas.Client.local(url=proxy.url, dialect=dialect) as client:
                dataset = client.datasets.upload(data)
                proxy.plan = FaultPlan(faults(dialect), seed=seed)

                def create(number: int) -> tuple[str, int]:
                    """Return the id of the job, and how many calls ended with an unknown outcome."""
                    for unknown in itertools.count():
                        try:
                            job = client.jobs.create(
                                model=MODELS[dialect],
                                training_data=dataset,
                                hyperparameters={"seed": number},
                            )
                        except maas.TransportError as error:
                            if "outcome is unknown" not in str(error):
                                raise
                        else:
                            return job.id, unknown
                    raise AssertionError

                results = list(pool.map(create, range(creates)))
            counts["faults"] = proxy.plan.count
        with server.client(dialect=dialect) as client:
            jobs = list(client.jobs.list())
    existing = Counter(
        job.name for job in jobs if job.status.lower() not in ("cancelled", "canceled")
    )
    counts["creates"] = creates
    counts["unknown"] = sum(unknown for _, unknown in results)
    counts["jobs"] = len(jobs)
    counts["doubled"] = sum(count - 1 for count in existing.values())
    counts["missing"] = creates - len({job for job, _ in results} & {job.id for job in jobs})
    return counts


def main() -> None:
    """Run the creates of the command line and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--creates", type=int, default=10_000)
    parser.add_argument("--dialect", choices=("azureml", "foundry"), default="azureml")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=4)
    args = parser.parse_args()
    start = time.monotonic()
    counts = run(args.creates, args.dialect, args.seed, args.threads)
    print(json.dumps({**counts, "seconds": round(time.monotonic() - start, 1)}))
    is_exact = not counts["doubled"] and not counts["missing"]
    raise SystemExit(0 if is_exact and counts["jobs"] == args.creates else 1)


if __name__ == "__main__":
    main()
