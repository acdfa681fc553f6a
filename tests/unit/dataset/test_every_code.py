"""Every fault of the corpus gets its code, its place and a hint; nothing else is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maas_client.dataset import validate
from maas_client.dataset.codes import get_code
from maas_client.types.report import FileReport
from tests.unit.dataset.corpus import (
    CONTROLS,
    FILE_FAULTS,
    LINE_FAULTS,
    BrokenFile,
    BrokenLine,
    file,
    good,
)

LINE = 7
"""Where the broken line stands."""
FORMAT = ("FILE_", "JSON_", "CHAT_", "TOOL_")


def check(tmp_path: Path, data: bytes, suffix: str = ".jsonl", **how: str | None) -> FileReport:
    path = tmp_path / f"train{suffix}"
    path.write_bytes(data)
    return validate(path, **how).files[0]  # type: ignore[arg-type] # str for a Literal


def among_good(fault: BrokenLine) -> tuple[bytes, int]:
    """Return a file with the broken line in it, and where that line starts."""
    before = file(*[good(n) for n in range(LINE - 1)])
    return before + fault.line + b"\n" + file(*[good(n) for n in range(20, 30)]), len(before)


@pytest.mark.parametrize("fault", LINE_FAULTS, ids=lambda fault: fault.name)
def test_a_broken_line_is_named_with_its_place(tmp_path: Path, fault: BrokenLine) -> None:
    data, start = among_good(fault)
    report = check(tmp_path, data, target=fault.target, model=fault.model)
    found = [p for p in report.problems if p.code == fault.code]
    assert found, [(p.code, p.line, p.message) for p in report.problems]
    problem = found[0] if fault.code != "CHAT_SYSTEM_MERGED" else found[-1]
    if fault.code == "CHAT_SYSTEM_MERGED":
        assert report.counts[fault.code] == LINE + 10
        return
    assert (problem.line, problem.severity) == (LINE, fault.severity)
    assert problem.offset == start + fault.offset
    assert problem.column == len(fault.line[: fault.offset].decode("utf-8", "replace")) + 1
    assert problem.pointer == fault.pointer
    assert problem.message
    assert problem.hint
    assert report.ok is (fault.severity == "warning")


@pytest.mark.parametrize("fault", LINE_FAULTS, ids=lambda fault: fault.name)
def test_one_fault_is_not_told_as_several(tmp_path: Path, fault: BrokenLine) -> None:
    data, _ = among_good(fault)
    report = check(tmp_path, data, target=fault.target, model=fault.model)
    errors = {p.code for p in report.problems if p.severity == "error"}
    assert errors <= {fault.code}
    assert {p.line for p in report.problems if p.severity == "error"} <= {LINE}


def test_there_are_at_least_a_hundred_classes() -> None:
    assert len({fault.name for fault in (*LINE_FAULTS, *FILE_FAULTS)}) >= 150
    known = {fault.code for fault in (*LINE_FAULTS, *FILE_FAULTS)}
    assert len(known) >= 75


@pytest.mark.parametrize("fault", FILE_FAULTS, ids=lambda fault: fault.name)
def test_a_file_wrong_as_a_whole_is_named(tmp_path: Path, fault: BrokenFile) -> None:
    report = check(tmp_path, fault.data, fault.suffix, target=fault.target)
    found = [p for p in report.problems if p.code == fault.code]
    assert len(found) == 1, [(p.code, p.line, p.message) for p in report.problems]
    assert (found[0].line, found[0].severity) == (0, fault.severity)
    assert found[0].hint
    if fault.code.startswith("FILE_"):
        assert {told for told in report.counts if not told.startswith("SERVICE_")} == {fault.code}


@pytest.mark.parametrize("target", ["azureml", "foundry", "local"])
@pytest.mark.parametrize("name", CONTROLS)
def test_good_data_raises_no_alarm(tmp_path: Path, name: str, target: str) -> None:
    report = check(tmp_path, CONTROLS[name], target=target)
    told = [p for p in report.problems if p.severity == "error" or p.code.startswith(FORMAT)]
    assert told == []
    assert report.ok
    assert report.examples == 12


def test_every_code_that_is_told_has_its_words(tmp_path: Path) -> None:
    for fault in LINE_FAULTS:
        known = get_code(fault.code)
        assert known.explanation, fault.code
        assert known.example, fault.code


def test_no_text_of_a_row_gets_into_a_report(tmp_path: Path) -> None:
    secret = "geheimnisvoll7"
    for fault in LINE_FAULTS:
        line = fault.line.replace(b"Hi", secret.encode()).replace(b"Sehr", secret.encode())
        line = line.replace(b"Ulm", secret.encode())
        report = check(tmp_path, line + b"\n", target=fault.target, model=fault.model)
        assert secret not in report.model_dump_json(), fault.name
