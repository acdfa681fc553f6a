"""``validate --fix``, ``--html`` and ``--price-training``, as typed."""

from __future__ import annotations

import json
import os
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
    assert "fixed: replaced CRLF line ends" in said
    assert out.read_bytes() == b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def test_fix_drop_takes_a_name_of_its_own(source: Path, tmp_path: Path, capsys: Any) -> None:
    source.write_bytes(source.read_bytes() + b'{"messages": [\n')
    code, printed, said = run(capsys, "validate", source, "--fix", "drop", "--json")
    assert code == 0
    report = json.loads(printed)
    assert report["files"][0]["path"].endswith("data.fixed.jsonl")
    assert report["fixed"]["beyond_repair"] == 1
    assert (tmp_path / "data.fixed.dropped.jsonl").read_bytes() == b'{"messages": [\n'
    assert "dropped: line 61 (JSON_CUT_SHORT)" in said


def test_fix_leaves_what_needs_a_guess_and_the_exit_code_says_so(
    source: Path, tmp_path: Path, capsys: Any
) -> None:
    source.write_bytes(source.read_bytes() + b"nonsense\n")
    code, _, said = run(capsys, "validate", source, "--fix", tmp_path / "out.jsonl")
    assert code == 3
    assert "not fixed: line 61" in said


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


@pytest.mark.parametrize(
    "words",
    [
        "validate {} --fix out.jsonl",
        "validate --show-mask {}",
        "datasets convert {} out.jsonl",
        "datasets split {}",
    ],
)
def test_what_cannot_be_read_twice_is_refused_and_not_waited_for(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jsonl")
    said = {"pipe.jsonl": "pipe", ".": "folder", "-": "standard input"}
    for file, word in said.items():
        assert main(words.format(file).split()) == 1
        assert word in capsys.readouterr().err
    assert os.listdir() == ["pipe.jsonl"]


def test_a_pipe_with_a_name_is_a_problem_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert main(["validate", str(tmp_path / "pipe.jsonl"), "--json"]) == 3
    [file] = json.loads(capsys.readouterr().out)["files"]
    assert "FILE_NOT_REGULAR" in file["counts"]
    assert "write it to a file first" in file["problems"][0]["message"]
    assert "maas-client validate - < PIPE" in file["problems"][0]["hint"]


def test_what_was_replaced_is_told_and_the_source_never_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    row = b'{"messages": [{"role": "user", "content": "a%d?"}, {"role": "assistant", "content": "b."}]}\n'
    data = b"".join(row % n for n in range(20))
    Path("a.jsonl").write_bytes(data)
    for words in (
        "validate a.jsonl --fix b.jsonl",
        "datasets split a.jsonl",
        "datasets convert a.jsonl c.jsonl",
        "validate a.jsonl --html d.html",
    ):
        for told in (False, True):
            assert main(words.split()) == 0
            assert ("already existed and was replaced" in capsys.readouterr().err) is told
    for words in (
        "validate a.jsonl --html a.jsonl",
        "validate a.dropped.jsonl --fix a.jsonl --drop",
    ):
        Path("a.dropped.jsonl").write_bytes(data)
        assert main(words.split()) == 1
        assert Path(words.split()[1]).read_bytes() == data


def test_an_empty_cell_is_told_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("prompt,completion\na,b\n,c\n")
    assert main(["datasets", "convert", "a.csv", "b.jsonl"]) == 3
    said = capsys.readouterr().err
    assert "row 2 (prompt-completion: prompt is missing or empty)" in said
    assert "Fill it in" in said
