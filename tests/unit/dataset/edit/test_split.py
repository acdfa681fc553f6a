"""``split`` loses no row, puts no prompt into both files, and is reproducible."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli import main
from maas_client.dataset import validate
from maas_client.dataset.edit.split import DatasetSplit, split, split_like_azure
from maas_client.errors import ConfigError, DatasetError
from tests.shared_data import shared_file
from tests.unit.dataset.scanners import labelled_duplicates


def make_row(*texts: str, system: str | None = None) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


@pytest.fixture
def run_split(tmp_path: Path) -> Callable[..., tuple[DatasetSplit, list[bytes], list[bytes]]]:
    def run(data: bytes, **options: Any) -> tuple[DatasetSplit, list[bytes], list[bytes]]:
        source = tmp_path / "in.jsonl"
        source.write_bytes(data)
        function = split_like_azure if options.pop("azure", False) else split
        result = function(source, tmp_path / "t.jsonl", tmp_path / "v.jsonl", **options)
        return result, *(
            (tmp_path / f"{n}.jsonl").read_bytes().splitlines(keepends=True) for n in "tv"
        )

    return run


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_every_row_is_in_exactly_one_file_unchanged(run_split: Any) -> None:
    rows = [make_row(f"q{i}", f"a{i}") for i in range(500)]
    data = lines(rows)
    result, training, validation = run_split(data, validation_share=0.2)
    assert sorted(training + validation) == sorted(data.splitlines(keepends=True))
    assert (
        (result.training_rows, result.validation_rows)
        == (len(training), len(validation))
        == (400, 100)
    )
    assert training != sorted(training)


def test_no_prompt_is_in_both_files(run_split: Any) -> None:
    rng = random.Random(4)
    rows = [make_row(f"Q {rng.randrange(80)}", f"a{i}", "more?", f"b{i}") for i in range(600)]
    rows += [make_row(f"q  {rng.randrange(80)}", f"a{i}") for i in range(400)]
    for by in ("conversation", "prompt"):
        result, training, validation = run_split(lines(rows), by=by, validation_share=0.2)
        firsts = [
            {json.loads(x)["messages"][0]["content"].lower().replace("  ", " ") for x in part}
            for part in (training, validation)
        ]
        if by == "conversation":
            assert not firsts[0] & firsts[1]
        prompts = [
            {json.dumps(json.loads(x)["messages"][:-1]) for x in part}
            for part in (training, validation)
        ]
        assert not prompts[0] & prompts[1]
        assert 0.15 < result.validation_rows / len(rows) < 0.25


def test_split_depends_on_the_seed(run_split: Any) -> None:
    data = lines([make_row(f"q{i}", "a") for i in range(200)])
    first, second, different = (run_split(data, seed=seed)[1:] for seed in (1, 1, 2))
    assert first == second != different


def test_split_is_the_same_on_every_machine(run_split: Any) -> None:
    _, _, validation = run_split(
        lines([make_row(f"q{i}", "a") for i in range(10)]), validation_share=0.3, shuffle=False
    )
    assert [json.loads(x)["messages"][0]["content"] for x in validation] == EXPECTED


EXPECTED = ["q0", "q3", "q6"]


def test_shuffle_false_keeps_the_order_of_the_source(run_split: Any) -> None:
    data = lines([make_row(f"q{i:03}", "a") for i in range(100)])
    _, training, validation = run_split(data, shuffle=False)
    assert training == sorted(training)
    assert validation == sorted(validation)
    assert validation != data.splitlines(keepends=True)[-len(validation) :]


def test_azure_split_takes_the_last_fifth(run_split: Any) -> None:
    data = lines([make_row(f"q{i}", "a") for i in range(13)])
    result, training, validation = run_split(data, azure=True)
    assert training + validation == data.splitlines(keepends=True)
    assert (result.training_rows, result.validation_rows) == (10, 3)


def test_byte_order_mark_blank_lines_and_crlf_are_removed(run_split: Any) -> None:
    rows = [json.dumps(make_row(f"q{i}", "a")).encode() for i in range(4)]
    data = b"\xef\xbb\xbf" + b"\r\n\r\n".join(rows)
    _, training, validation = run_split(data, validation_share=0.5)
    assert sorted(training + validation) == sorted(row + b"\n" for row in rows)


def test_rows_in_other_formats_are_grouped_by_their_prompt(run_split: Any) -> None:
    rows = [{"prompt": f"p{i % 20}", "completion": f"c{i}"} for i in range(100)]
    _, training, validation = run_split(lines(rows), validation_share=0.3)
    assert not {json.loads(x)["prompt"] for x in training} & {
        json.loads(x)["prompt"] for x in validation
    }


def test_neither_file_is_ever_empty(run_split: Any) -> None:
    _, training, validation = run_split(
        lines([make_row("a", "1"), make_row("b", "2")]), validation_share=0.01
    )
    assert len(training) == len(validation) == 1
    _, training, validation = run_split(
        lines([make_row("a", "1")] * 50 + [make_row("b", "2")]), validation_share=0.9
    )
    assert training
    assert validation


@pytest.mark.parametrize(
    "data", [b"", lines([make_row("a", "1")]), lines([make_row("a", "1")] * 9)]
)
def test_too_few_rows_are_rejected(data: bytes, run_split: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too few to split"):
        run_split(data)
    assert not (tmp_path / "t.jsonl").exists()


def test_invalid_lines_and_arguments_are_rejected(run_split: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="line 2"):
        run_split(lines([make_row("a", "1")]) + b"{]\n")
    with pytest.raises(ConfigError, match="share"):
        run_split(lines([make_row("a", "1"), make_row("b", "1")]), validation_share=1.5)
    source = tmp_path / "in.jsonl"
    with pytest.raises(ConfigError, match="is the file that is read"):
        split(source, source, tmp_path / "v.jsonl")
    with pytest.raises(ConfigError, match="are the same file"):
        split(source, tmp_path / "v.jsonl", tmp_path / "v.jsonl")


def test_split_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "data.jsonl"
    source.write_bytes(lines([make_row(f"q{i}", "a") for i in range(30)]))
    assert main(["datasets", "split", str(source), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["training_rows"], printed["validation_rows"]) == (27, 3)
    assert Path(printed["training"]).name == "data.train.jsonl"
    out = str(tmp_path / "x.jsonl")
    assert main(["datasets", "split", str(source), "--azure-split", "--train", out]) == 0
    assert "unshuffled" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["conversation", "prompt"])
@pytest.mark.parametrize("seed", range(4))
def test_validate_finds_no_leakage_in_what_split_wrote(
    run_split: Any, tmp_path: Path, seed: int, by: str
) -> None:
    rng = random.Random(seed)
    rows, copies = [], 0
    for kind, make in labelled_duplicates.KINDS.items():
        originals = [make(rng, n) for n in range(24)]
        rows += originals
        rows += [labelled_duplicates.make_copy(rng, row, kind) for row in originals[::2]]
        copies += 12
    random.Random(1).shuffle(rows)
    result, *_ = run_split(lines(rows), by=by, seed=seed, validation_share=0.3)
    assert result.groups <= len(rows) - copies // 2
    assert 0.2 < result.validation_rows / len(rows) < 0.4
    report = validate(tmp_path / "t.jsonl", validation=tmp_path / "v.jsonl")
    assert "QUALITY_LEAKAGE" not in report.files[1].counts
    run_split(lines(rows), by="row", seed=seed, validation_share=0.3)
    report = validate(tmp_path / "t.jsonl", validation=tmp_path / "v.jsonl")
    assert report.files[1].counts["QUALITY_LEAKAGE"] > 0


def test_shared_tool_rows_are_split_without_leakage(run_split: Any, tmp_path: Path) -> None:
    data = shared_file("cases/30-tools-shared.jsonl").read_bytes()
    run_split(data, validation_share=0.3)
    report = validate(tmp_path / "t.jsonl", validation=tmp_path / "v.jsonl")
    assert "QUALITY_LEAKAGE" not in report.files[1].counts


def test_file_of_copies_is_too_small_to_split(run_split: Any) -> None:
    text = "Where is the key of the old green harbour office, and who has it at the moment"
    rows = [
        make_row(text + end, "It is in the drawer of the desk.") for end in ("", "?", "!", "?!")
    ]
    with pytest.raises(ConfigError, match="too few to split"):
        run_split(lines(rows))
