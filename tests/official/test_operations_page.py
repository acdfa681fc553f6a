"""docs/operations.md lists every operation and whether the server implements it."""

from __future__ import annotations

import re
from pathlib import Path

from maas_client.local.http.routes import azureml, foundry, login

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
