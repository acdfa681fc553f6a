"""docs/operations.md lists every operation and whether the server implements it."""

from __future__ import annotations

import re
from pathlib import Path

from maas_client.local.http.routes import azureml, foundry, login
from maas_client.wire import openai_service

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TABLES = (*azureml.TABLES, *foundry.TABLES, *login.TABLES)
STATES = ("implemented", "simulated", "501")


def documented_states() -> dict[str, str]:
    rows = re.findall(
        r"^\| `([\w. ]+)` \| .* \| (implemented|simulated|501)\b[^|]*\|$",
        PAGE.read_text("utf-8"),
        re.M,
    )
    assert len({name for name, _ in rows}) == len(rows)
    return dict(rows)


def test_page_lists_every_operation() -> None:
    assert set(documented_states()) == {op.name for table in TABLES for op in table.operations}


def test_unimplemented_operations_are_listed_as_501() -> None:
    page = documented_states()
    assert set(page.values()) == set(STATES)
    not_done = {name for table in TABLES for name in table.not_implemented}
    assert {name for name, state in page.items() if state == "501"} == not_done


def test_paths_of_the_page_are_those_of_the_tables() -> None:
    page = PAGE.read_text("utf-8")
    for operation in (
        *openai_service.V1_OPERATIONS,
        *openai_service.DATED_OPERATIONS,
        *openai_service.ENDPOINT_OPERATIONS,
    ):
        row = f"| `{operation.name}` | `{operation.method} "
        paths = (operation.path, operation.path.removeprefix("/v1"))
        assert any(f"{row}{path}` | 501 |" in page for path in paths), operation.name
