"""``validate --fix``, ``--html`` and ``--price-training``, as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli import main

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"q{i}"},
            {"role": "assistant", "content": f"Answer {i}."},
        ]
    }
    for i in range(60)
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(json.dumps(row).encode() + b"\r\n" for row in ROWS))
    return path


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main([str(arg) for arg in args])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_fix_writes_checks_and_tells(source: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.jsonl"
    code, printed, said = run(capsys, "validate", source, "--fix", out)
    assert code == 0, printed
    assert "mended: CRLF line ends" in said
    assert out.read_bytes() == b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def test_fix_drop_takes_a_name_of_its_own(source: Path, tmp_path: Path, capsys: Any) -> None:
    source.write_bytes(source.read_bytes() + b'{"messages": [\n')
    code, printed, said = run(capsys, "validate", source, "--fix", "drop", "--json")
    assert code == 0
    report = json.loads(printed)
    assert report["files"][0]["path"].endswith("data.fixed.jsonl")
    assert report["fixed"]["beyond_repair"] == 1
    assert (tmp_path / "data.fixed.dropped.jsonl").read_bytes() == b'{"messages": [\n'
    assert "left out: line 61 (JSON_CUT_SHORT)" in said


def test_fix_leaves_what_needs_a_guess_and_the_exit_code_says_so(
    source: Path, tmp_path: Path, capsys: Any
) -> None:
    source.write_bytes(source.read_bytes() + b"nonsense\n")
    code, _, said = run(capsys, "validate", source, "--fix", tmp_path / "out.jsonl")
    assert code == 3
    assert "left: line 61" in said


def test_fix_takes_one_file_and_never_the_file_itself(source: Path, capsys: Any) -> None:
    before = source.read_bytes()
    assert run(capsys, "validate", source, source, "--fix", "x.jsonl")[0] != 0
    code, _, said = run(capsys, "validate", source, "--fix", source)
    assert code != 0
    assert "is the file that is read" in said
    assert source.read_bytes() == before
    assert run(capsys, "validate", source, "--fix", source, "--in-place")[0] == 0
    assert source.read_bytes() != before


def test_html_is_written_beside_the_report(source: Path, tmp_path: Path, capsys: Any) -> None:
    code, printed, _ = run(capsys, "validate", source, "--html", tmp_path / "r.html", "--json")
    assert code == 0
    assert json.loads(printed)["ok"]
    assert "<svg" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_forecast_needs_a_price(source: Path, capsys: Any) -> None:
    assert "bill" not in json.loads(run(capsys, "validate", source, "--json")[1])
    args = (
        "validate",
        source,
        "--epochs",
        3,
        "--price-training",
        "4.5",
        "--price-hosting",
        1,
        "--hours",
        730,
    )
    bill = json.loads(run(capsys, *args, "--json")[1])["bill"]
    assert bill["billed_tokens"]["likely"] > 0
    assert [cost["what"] for cost in bill["costs"]] == ["training", "hosting"]
    printed = run(capsys, *args)[1]
    assert "hosting: USD 730.00 (730 hours x 1)" in printed
    code, _, said = run(capsys, "validate", source, "--price-training", "cheap")
    assert code == 1
    assert "must be a number" in said
