"""Wire fixtures: what both houses say to each other on the road, one exchange per operation and code.

``python -m tests.official.wire_fixtures`` writes ``tests/fixtures/wire/*.json`` anew; look at the difference
before you commit it: it is a change of the treaty.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any, Literal

from tests.official.conftest import rows
from tests.official.recorder import Recorder, road

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
"""Fields whose words are part of the treaty; of all others the kind of value is."""


def exchanges(recorder: Recorder) -> list[dict[str, Any]]:
    """Return the first exchange of each operation and code, without what changes from run to run."""
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    for one in recorder.heard:
        if (one.op, one.status) in kept:
            continue
        entry = {
            "operation": one.op,
            "method": one.method,
            "path": _steady(one.path),
            "sent": json.loads(_steady(json.dumps(one.sent))),
            "status": one.status,
            "headers": sorted(
                set(one.headers) & {"location", "azure-asyncoperation", "retry-after"}
            ),
            "answer": _shape(one.got),
        }
        kept[one.op, one.status] = entry
    return sorted(kept.values(), key=lambda e: (e["operation"], e["status"]))


def _steady(text: str) -> str:
    for pattern, name in _CHANGING:
        text = re.sub(pattern, name, text)
    return text


def _shape(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _shape(one, key) for key, one in sorted(value.items())}
    if isinstance(value, list):
        return [_shape(value[0], name)] if value else []
    if value is None or name in _KEPT:
        return value
    return {bool: "a truth", int: "a number", float: "a number", str: "a text"}[type(value)]


def record(dialect: Dialect) -> list[dict[str, Any]]:
    """Go the road of a dialect on a fresh server and return what was said."""
    from maas_client.local import serve

    with tempfile.TemporaryDirectory() as folder, serve(engine="instant") as server:
        data = Path(folder) / "train.jsonl"
        data.write_bytes(rows())
        data.with_name("val.jsonl").write_bytes(rows(5))
        return exchanges(road(server, dialect, data))


if __name__ == "__main__":
    for each in DIALECTS:
        text = json.dumps(record(each), indent=1, ensure_ascii=False)
        (FOLDER / f"{each}.json").write_text(text + "\n", "utf-8")
