"""``split``: no row lost, no prompt in both files, the same files for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli import main
from maas_client.dataset.edit.split import DatasetSplit, split, split_like_azure
from maas_client.errors import ConfigError, DatasetError


def talk(*texts: str, system: str | None = None) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *said] if system else said}


@pytest.fixture
def parts(tmp_path: Path) -> Callable[..., tuple[DatasetSplit, list[bytes], list[bytes]]]:
    def run(data: bytes, **options: Any) -> tuple[DatasetSplit, list[bytes], list[bytes]]:
        source = tmp_path / "in.jsonl"
        source.write_bytes(data)
        how = split_like_azure if options.pop("azure", False) else split
        done = how(source, tmp_path / "t.jsonl", tmp_path / "v.jsonl", **options)
        return done, *(
            (tmp_path / f"{n}.jsonl").read_bytes().splitlines(keepends=True) for n in "tv"
        )

    return run


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_every_row_is_in_one_file_byte_for_byte(parts: Any) -> None:
    rows = [talk(f"q{i}", f"a{i}") for i in range(500)]
    data = lines(rows)
    done, train, held = parts(data, validation_share=0.2)
    assert sorted(train + held) == sorted(data.splitlines(keepends=True))
    assert (done.training_rows, done.validation_rows) == (len(train), len(held)) == (400, 100)
    assert train != sorted(train)


def test_no_prompt_is_in_both_files(parts: Any) -> None:
    rng = random.Random(4)
    rows = [talk(f"Q {rng.randrange(80)}", f"a{i}", "more?", f"b{i}") for i in range(600)]
    rows += [talk(f"q  {rng.randrange(80)}", f"a{i}") for i in range(400)]
    for by in ("conversation", "prompt"):
        done, train, held = parts(lines(rows), by=by, validation_share=0.2)
        firsts = [
            {json.loads(x)["messages"][0]["content"].lower().replace("  ", " ") for x in part}
            for part in (train, held)
        ]
        if by == "conversation":
            assert not firsts[0] & firsts[1]
        prompts = [
            {json.dumps(json.loads(x)["messages"][:-1]) for x in part} for part in (train, held)
        ]
        assert not prompts[0] & prompts[1]
        assert 0.15 < done.validation_rows / len(rows) < 0.25


def test_same_seed_same_files_and_another_seed_another_split(parts: Any) -> None:
    data = lines([talk(f"q{i}", "a") for i in range(200)])
    first, again, other = (parts(data, seed=seed)[1:] for seed in (1, 1, 2))
    assert first == again != other


def test_a_known_split_stays_the_same_on_every_machine(parts: Any) -> None:
    _, _, held = parts(
        lines([talk(f"q{i}", "a") for i in range(10)]), validation_share=0.3, shuffle=False
    )
    assert [json.loads(x)["messages"][0]["content"] for x in held] == KNOWN


KNOWN = ["q0", "q3", "q6"]


def test_without_shuffling_the_order_of_the_source_is_kept(parts: Any) -> None:
    data = lines([talk(f"q{i:03}", "a") for i in range(100)])
    _, train, held = parts(data, shuffle=False)
    assert train == sorted(train)
    assert held == sorted(held)
    assert held != data.splitlines(keepends=True)[-len(held) :]


def test_azure_takes_the_last_fifth(parts: Any) -> None:
    data = lines([talk(f"q{i}", "a") for i in range(13)])
    done, train, held = parts(data, azure=True)
    assert train + held == data.splitlines(keepends=True)
    assert (done.training_rows, done.validation_rows) == (10, 3)


def test_marks_blank_lines_and_crlf_go_and_the_last_line_gets_its_end(parts: Any) -> None:
    rows = [json.dumps(talk(f"q{i}", "a")).encode() for i in range(4)]
    data = b"\xef\xbb\xbf" + b"\r\n\r\n".join(rows)
    _, train, held = parts(data, validation_share=0.5)
    assert sorted(train + held) == sorted(row + b"\n" for row in rows)


def test_rows_of_other_tasks_are_grouped_by_their_prompt(parts: Any) -> None:
    rows = [{"prompt": f"p{i % 20}", "completion": f"c{i}"} for i in range(100)]
    _, train, held = parts(lines(rows), validation_share=0.3)
    assert not {json.loads(x)["prompt"] for x in train} & {json.loads(x)["prompt"] for x in held}


def test_there_is_always_something_in_both(parts: Any) -> None:
    _, train, held = parts(lines([talk("a", "1"), talk("b", "2")]), validation_share=0.01)
    assert len(train) == len(held) == 1
    _, train, held = parts(lines([talk("a", "1")] * 50 + [talk("b", "2")]), validation_share=0.9)
    assert train
    assert held


@pytest.mark.parametrize("data", [b"", lines([talk("a", "1")]), lines([talk("a", "1")] * 9)])
def test_what_cannot_be_split_is_refused(data: bytes, parts: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too few to split"):
        parts(data)
    assert not (tmp_path / "t.jsonl").exists()


def test_bad_lines_and_bad_arguments(parts: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="line 2"):
        parts(lines([talk("a", "1")]) + b"{]\n")
    with pytest.raises(ConfigError, match="share"):
        parts(lines([talk("a", "1"), talk("b", "1")]), validation_share=1.5)
    source = tmp_path / "in.jsonl"
    with pytest.raises(ConfigError, match="is the file that is read"):
        split(source, source, tmp_path / "v.jsonl")
    with pytest.raises(ConfigError, match="written twice"):
        split(source, tmp_path / "v.jsonl", tmp_path / "v.jsonl")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "data.jsonl"
    source.write_bytes(lines([talk(f"q{i}", "a") for i in range(30)]))
    assert main(["datasets", "split", str(source), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["training_rows"], said["validation_rows"]) == (27, 3)
    assert Path(said["training"]).name == "data.train.jsonl"
    out = str(tmp_path / "x.jsonl")
    assert main(["datasets", "split", str(source), "--azure-split", "--train", out]) == 0
    assert "unshuffled" in capsys.readouterr().err
