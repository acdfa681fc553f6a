"""Wire fixtures: the requests and responses of client and local server, one exchange per operation and
status code.

``python -m tests.official.wire_fixtures`` rewrites ``tests/fixtures/wire/*.json``. Review the diff before
you commit it: it is a change of what goes over the wire.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any, Literal

from tests.official.conftest import training_rows
from tests.official.recorder import Recorder, record_workflow

FOLDER = Path(__file__).parents[1] / "fixtures" / "wire"
Dialect = Literal["azureml", "foundry"]
DIALECTS: tuple[Dialect, ...] = ("azureml", "foundry")

_CHANGING = (
    (r"http://127\.0\.0\.1:\d+", "{server}"),
    (r"127\.0\.0\.1:\d+", "{server}"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "{guid}"),
    (r"[0-9a-f]{64}", "{sha256}"),
    (r"[0-9a-f]{32}(m?\d{8})?", "{id}"),
    (r"sig=[^&\"]*", "sig={signature}"),
    (r"se=[^&\"]*", "se={end}"),
)
_KEPT = frozenset(
    {"object", "status", "type", "kind", "jobType", "provisioningState", "endpointState", "role",
     "finish_reason", "level", "purpose", "datastoreType", "credentialsType", "secretsType", "authMode"}
)  # fmt: skip
"""Fields whose values are compared; of all others only the type is."""


def exchanges(recorder: Recorder) -> list[dict[str, Any]]:
    """Return the first exchange of each operation and status code, without values that differ from run to
    run.
    """
    entries: dict[tuple[str, int], dict[str, Any]] = {}
    for exchange in recorder.exchanges:
        if (exchange.op, exchange.status) in entries:
            continue
        entry = {
            "operation": exchange.op,
            "method": exchange.method,
            "path": _steady(exchange.path),
            "sent": json.loads(_steady(json.dumps(exchange.sent))),
            "status": exchange.status,
            "headers": sorted(
                set(exchange.headers) & {"location", "azure-asyncoperation", "retry-after"}
            ),
            "answer": _shape(exchange.got),
        }
        entries[exchange.op, exchange.status] = entry
    return sorted(entries.values(), key=lambda e: (e["operation"], e["status"]))


def _steady(text: str) -> str:
    for pattern, name in _CHANGING:
        text = re.sub(pattern, name, text)
    return text


def _shape(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _shape(exchange, key) for key, exchange in sorted(value.items())}
    if isinstance(value, list):
        return [_shape(value[0], name)] if value else []
    if value is None or name in _KEPT:
        return value
    return {bool: "a truth", int: "a number", float: "a number", str: "a text"}[type(value)]


def record(dialect: Dialect) -> list[dict[str, Any]]:
    """Run the workflow of a dialect on a new server and return the exchanges."""
    from maas_client.local import serve

    with tempfile.TemporaryDirectory() as folder, serve(engine="instant") as server:
        data = Path(folder) / "train.jsonl"
        data.write_bytes(training_rows())
        data.with_name("val.jsonl").write_bytes(training_rows(5))
        return exchanges(record_workflow(server, dialect, data))


if __name__ == "__main__":
    for each in DIALECTS:
        text = json.dumps(record(each), indent=1, ensure_ascii=False)
        (FOLDER / f"{each}.json").write_text(text + "\n", "utf-8")
