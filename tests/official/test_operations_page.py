"""docs/operations.md says of every operation what the server does with it."""

from __future__ import annotations

import re
from pathlib import Path

from maas_client.local.http.routes import azureml, foundry, login

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TABLES = (*azureml.TABLES, *foundry.TABLES, *login.TABLES)
STATES = ("implemented", "simulated", "501")


def told() -> dict[str, str]:
    rows = re.findall(
        r"^\| `([\w.]+)` \| .* \| (implemented|simulated|501)\b[^|]*\|$",
        PAGE.read_text("utf-8"),
        re.M,
    )
    assert len({name for name, _ in rows}) == len(rows)
    return dict(rows)


def test_every_operation_is_on_the_page_and_no_other() -> None:
    assert set(told()) == {op.name for table in TABLES for op in table.operations}


def test_what_is_not_done_is_said_to_be_501() -> None:
    page = told()
    assert set(page.values()) == set(STATES)
    not_done = {name for table in TABLES for name in table.not_implemented}
    assert {name for name, state in page.items() if state == "501"} == not_done
