"""The report as a whole: unreadable files, what the service would do, limits on listed problems."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from maas_client.cli import main
from maas_client.dataset import validate
from maas_client.dataset.codes import Target
from maas_client.dataset.report import MAX_PER_CODE, MAX_PROBLEMS, ONCE_PER_FILE
from maas_client.dataset.rules.service import describe_prediction
from maas_client.dataset.scanners.duplicates import repeated_values
from maas_client.errors import ConfigError, DatasetError
from tests.fuzz import mutations
from tests.shared_data import shared_file
from tests.unit.dataset.corpus import (
    ANSWER,
    BROKEN_LINES,
    GOOD,
    USER,
    VALID_LINES,
    WEATHER,
    file,
    load_schema,
    message,
    row,
    valid_line,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.jsonl"


def test_report_has_its_fixed_keys(path: Path) -> None:
    from jsonschema import Draft202012Validator

    path.write_bytes(file(*[fault.line for fault in BROKEN_LINES], *VALID_LINES))
    report = validate(path)
    Draft202012Validator(load_schema("report")).validate(json.loads(report.model_dump_json()))
    assert report.files[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.files[0].bytes == path.stat().st_size
    assert [p.line for p in report.files[0].problems] == sorted(
        p.line for p in report.files[0].problems
    )


def test_validation_leaves_no_reference_cycles(path: Path) -> None:
    """A cycle kept 6 MB of each file until the garbage collector looked at old objects."""
    path.write_bytes(file(*VALID_LINES))
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        report = validate(path, validation=path, target="local")
        gc.collect()
        kept = {type(item).__module__ for item in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert report.files[0].examples
    assert not [name for name in kept if name.startswith("maas_client")]


def test_missing_file_is_a_problem_not_an_exception(path: Path) -> None:
    for name in (str(path), f"{path}\0", f"{path}/x", "x" * 5000):
        report = validate(name)
        assert not report.ok
        assert set(report.files[0].counts) <= {"FILE_NOT_FOUND", "FILE_UNREADABLE"}


def test_file_name_that_is_not_utf8_is_validated(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.jsonl"
    with open(name, "wb") as out:
        out.write(file(*VALID_LINES))
    report = validate(os.fsdecode(name))
    assert report.ok
    json.loads(report.model_dump_json())


def test_catalog_override_file_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(file(*VALID_LINES))
    override = path.with_name("catalog.json")
    override.write_text('{"limits": {"azureml": {"rows_min": 50}}}')
    monkeypatch.setenv("MAAS_CATALOG", str(override))
    assert validate(path).files[0].counts["SERVICE_TOO_FEW_ROWS"] == 1


def test_folder_pipe_and_device_are_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in (tmp_path, tmp_path / "pipe.jsonl", Path("/dev/zero")):
        assert validate(name).files[0].counts == {"FILE_NOT_REGULAR": 1}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_a_problem(path: Path) -> None:
    path.write_bytes(file(*VALID_LINES))
    path.chmod(0)
    assert validate(path).files[0].counts == {"FILE_UNREADABLE": 1}


def test_growing_file_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maas_client.dataset import file_validator

    path.write_bytes(file(*VALID_LINES))
    look = file_validator.FileValidator._check_head

    def look_and_grow(check: file_validator.FileValidator, opened: object, size: int) -> None:
        look(check, opened, size)  # type: ignore[arg-type] # as it came
        with path.open("ab") as output:
            output.write(file(GOOD))

    monkeypatch.setattr(file_validator.FileValidator, "_check_head", look_and_grow)
    report = validate(path)
    assert report.files[0].counts["FILE_CHANGED"] == 1
    assert not report.ok


def test_invalid_arguments_are_rejected() -> None:
    with pytest.raises(ConfigError, match="no file"):
        validate()
    with pytest.raises(ConfigError, match="azureml, foundry, local"):
        validate("x.jsonl", target="azure")  # type: ignore[arg-type] # that is the point
    with pytest.raises(ConfigError, match="Phi-3-mini"):
        validate("x.jsonl", model="Phi-3-minni-4k-instruct")


def test_raise_if_invalid_carries_the_report(path: Path) -> None:
    path.write_bytes(file(*VALID_LINES, b"{"))
    with pytest.raises(DatasetError, match="line 13") as caught:
        validate(path).raise_if_invalid()
    assert caught.value.report is not None


def test_counts_are_complete_and_listed_problems_are_limited(path: Path) -> None:
    bad = [fault.line for fault in BROKEN_LINES if len(fault.line) < 2000][-50:]
    path.write_bytes(file(*bad * 40))
    start = time.process_time()
    report = validate(path).files[0]
    assert time.process_time() - start < 10
    assert max(report.counts.values()) > MAX_PER_CODE
    listed = Counter(problem.code for problem in report.problems)
    for code, count in report.counts.items():
        assert listed[code] >= (1 if code in ONCE_PER_FILE else min(count, MAX_PER_CODE))
        assert report.stats["not_shown"].get(code, 0) == count - listed[code]
    assert len(report.problems) <= MAX_PROBLEMS
    assert list(report.problems) == sorted(report.problems, key=lambda p: (p.line, p.offset))


def test_problems_are_listed_until_the_report_reaches_a_megabyte(path: Path) -> None:
    path.write_bytes(file(*[b'{"messages": ['] * 1000, *VALID_LINES))
    report = validate(path).files[0]
    assert sum(problem.code == "JSON_CUT_SHORT" for problem in report.problems) == 1000
    assert "not_shown" not in report.stats
    deep = row({"role": "user", "content": "x", "k" * 90: '"' * 30}, message("bot", "\\" * 50))
    path.write_bytes(file(*[deep] * 30_000))
    several = validate(path, path, path)
    assert len(json.dumps(several.model_dump(), indent=2)) < 1_000_000
    assert sum(len(each.problems) for each in several.files) > 1000
    assert several.files[2].counts["CHAT_KEY_UNKNOWN"] == 30_000


def test_text_report_is_short(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(file(*[b'{"messages": ['] * 1000, *VALID_LINES))
    assert main(["validate", str(path), "--html", str(path.with_suffix(".html"))]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert sum("JSON_CUT_SHORT" in line for line in lines) == 1
    assert any(line.startswith("error JSON_CUT_SHORT") and "1,000" in line for line in lines)
    assert len(lines) < 24
    page = path.with_suffix(".html").read_text()
    assert page.count(">JSON_CUT_SHORT<") == MAX_PER_CODE + 1
    assert "and 975 more" in page


def test_stats_have_the_rows_that_the_service_skips_and_drops(path: Path) -> None:
    path.write_bytes(
        file(*VALID_LINES[:9], b"{", b'{"id": 1}', b"", row(USER), row(USER, message("bot", "x")))
    )
    service = validate(path).files[0].stats["service"]
    assert (service["rows"], service["rows_skipped"], service["rows_dropped"]) == (10, 2, 1)
    assert service["blank_lines"] == 1
    assert "SERVICE_TOO_FEW_ROWS" not in validate(path).files[0].counts
    assert all(limit["source"].startswith("http") and limit["as_of"] for limit in service["limits"])


def test_stats_have_the_validation_split(path: Path) -> None:
    path.write_bytes(file(*[valid_line(n) for n in range(100)]))
    split = validate(path).files[0].stats["service"]["validation_split"]
    assert split == {"rows": 20, "first_row": 81, "shuffled": False}
    both = validate(path, validation=path)
    assert "validation_split" not in both.files[0].stats["service"]
    assert both.files[1].counts["QUALITY_LEAKAGE"] == 100


def test_rows_sorted_by_task_are_reported(path: Path) -> None:
    def tasks(names: str) -> bytes:
        return file(
            *[
                row(
                    message("system", name),
                    message("user", f"{n}?"),
                    message("assistant", f"Yes, {n}."),
                )
                for n, name in enumerate(names)
            ]
        )

    path.write_bytes(tasks("A" * 70 + "B" * 30))
    report = validate(path).files[0]
    [problem] = [p for p in report.problems if p.code == "SERVICE_SPLIT"]
    assert (problem.severity, problem.line) == ("warning", 0)
    assert "20 of the last 20 rows have a system message" in problem.message
    for mixed in ("AB" * 50, "A" * 100, "".join(map(chr, range(200, 300)))):
        path.write_bytes(tasks(mixed))
        assert "SERVICE_SPLIT" not in validate(path).files[0].counts
    path.write_bytes(tasks("A" * 70 + "B" * 30))
    assert "SERVICE_SPLIT" not in validate(path, target="local").files[0].counts
    assert "SERVICE_SPLIT" not in validate(path, validation=path).files[0].counts


def test_rows_with_tools_and_one_system_message_are_in_no_order(path: Path) -> None:
    text = "You help."
    plain = [row(message("system", text), message("user", f"{n}?"), ANSWER) for n in range(70)]
    tools = [row(message("system", text), USER, ANSWER, tools=WEATHER) for _ in range(15)]
    parts = message("system", [{"type": "text", "text": text}])
    with_parts = [row(parts, message("user", f"{n}?"), ANSWER) for n in range(15)]
    path.write_bytes(file(*plain, *tools, *with_parts))
    assert "SERVICE_SPLIT" not in validate(path).files[0].counts
    dated = [f"You help. Today is 2026-11-{n // 4 + 1:02d}, {n % 24}:00." for n in range(70)]
    for texts in (dated, [*["You help."] * 50, *["You help. "] * 10, *["YOU  help."] * 10]):
        rows = [
            row(message("system", t), message("user", f"{n}?"), ANSWER) for n, t in enumerate(texts)
        ]
        path.write_bytes(file(*rows))
        assert "SERVICE_SPLIT" not in validate(path).files[0].counts
    rows_with_tools = [
        row(message("system", "Rhyme."), USER, ANSWER, tools=WEATHER) for _ in range(30)
    ]
    path.write_bytes(file(*plain, *rows_with_tools))
    assert validate(path).files[0].counts["SERVICE_SPLIT"] == 1


def test_stats_have_ignored_keys_and_billed_tokens(path: Path) -> None:
    rows = [
        json.dumps({"id": n, **json.loads(line)}).encode() for n, line in enumerate(VALID_LINES)
    ]
    path.write_bytes(b"\xef\xbb\xbf" + file(*rows, end=b"\r\n"))
    stats = validate(path, epochs=3, validation=path).files[0].stats
    assert [note.partition(" ")[0] for note in stats["notes"]] == ["the", "lines", "keys"]
    assert stats["notes"][2].endswith(": 'id'")
    assert stats["billed_tokens"]["likely"] == 2 * 3 * stats["tokens"]["total"]


@pytest.mark.parametrize(
    ("target", "size", "code", "severity"),
    [
        ("azureml", 600, "SERVICE_FILE_TOO_LARGE", "error"),
        ("foundry", 600, "SERVICE_UPLOADS_ONLY", "warning"),
        ("foundry", 6000, "SERVICE_FILE_TOO_LARGE", "error"),
        ("local", 6000, None, None),
    ],
)
def test_size_limits_by_target(
    target: str, size: int, code: str | None, severity: str | None
) -> None:
    from maas_client.dataset.rules.context import build_context
    from maas_client.dataset.rules.service import ServiceRules

    service = ServiceRules(build_context(target))
    service.count_valid(1000)
    codes = [each.code for each in service.finish(size=size << 20, examples=1000)]
    assert codes == ([code] if code else [])
    if code:
        assert build_context(target).severity(code) == severity
    assert service.stats(size=size << 20, examples=10)["route"] == {"foundry": "uploads"}.get(
        target, "blob"
    )


def test_model_that_the_target_does_not_tune_is_reported(path: Path) -> None:
    path.write_bytes(file(*[valid_line(n) for n in range(60)]))
    report = validate(path, target="foundry", model="Phi-4-mini-instruct").files[0]
    assert report.ok
    [problem] = [p for p in report.problems if p.code == "SERVICE_MODEL"]
    assert problem.severity == "warning"
    assert "azureml" in problem.message
    for target in ("azureml", "local"):
        counts = validate(path, target=target, model="Phi-4-mini-instruct").files[0].counts  # type: ignore[arg-type] # a Literal
        assert "SERVICE_MODEL" not in counts


def test_merged_system_messages_are_reported_once(path: Path) -> None:
    path.write_bytes(file(*[valid_line(n) for n in range(60)]))
    report = validate(path, model="Phi-3-medium-4k-instruct").files[0]
    assert report.ok
    assert report.counts["CHAT_SYSTEM_MERGED"] == 60
    assert [p.line for p in report.problems if p.code == "CHAT_SYSTEM_MERGED"] == [1]


def test_repeated_lines_are_reported_without_content_checks(path: Path) -> None:
    path.write_bytes(file(*[valid_line(n) for n in range(60)], b"", valid_line(7)) + valid_line(9))
    report = validate(path, content=False).files[0]
    duplicates = [(p.line, p.message) for p in report.problems if p.code == "QUALITY_DUPLICATE"]
    assert [line for line, _ in duplicates] == [62, 63]
    assert duplicates[0][1].endswith("line 8")


def test_repeated_lines_in_a_large_file_are_found() -> None:
    from array import array

    hashes = array("q", range(-100_000, 100_000))
    hashes.extend([5, -7, 5])
    assert repeated_values(hashes) == {5, -7}


@pytest.mark.parametrize("at_once", [1, 700, 1 << 16, 200_000])
def test_hash_array_behaves_like_one_sequence(at_once: int) -> None:
    from maas_client.dataset.scanners.duplicates import HashArray

    values = [(n * 2_654_435_761) % 150_000 - 70_000 for n in range(200_000 if at_once > 1 else 99)]
    hashes = HashArray()
    for start in range(0, len(values), at_once):
        hashes.extend(values[start : start + at_once])
    assert len(hashes) == len(values)
    assert list(hashes) == values
    indices = range(0, len(values), 97)
    assert [hashes[at] for at in indices] == [values[at] for at in indices]
    assert repeated_values(hashes) == {n for n, times in Counter(values).items() if times > 1}


def test_sample_of_microsoft_and_real_chats_are_valid() -> None:
    files = sorted(shared_file("data").glob("*.jsonl"))
    for target in ("azureml", "foundry", "local"):
        for each in files:
            report = validate(each, target=target).files[0]  # type: ignore[arg-type] # a Literal
            assert report.ok
            assert not [
                c for c in report.counts if c.startswith(("FILE_", "JSON_", "CHAT_", "TOOL_"))
            ]
            assert report.examples == report.lines


def test_rows_with_weights_are_counted_as_examples(path: Path) -> None:
    weighted = row(USER, message("assistant", "No.", weight=0), USER, {**ANSWER, "weight": 1})
    path.write_bytes(file(*[weighted] * 12))
    assert validate(path).files[0].examples == 12


@pytest.mark.parametrize("target", ["azureml", "foundry", "local"])
def test_numbers_of_a_report_add_up(path: Path, target: Target) -> None:
    rng = random.Random(target)
    for _ in range(60):
        lines = [mutations.make_line(rng) for _ in range(rng.choice((0, 3, 20)))]
        lines += VALID_LINES[: rng.choice((0, 9, 12))] + [b""] * rng.choice((0, 2))
        rng.shuffle(lines)
        path.write_bytes(file(*lines))
        report = validate(path, target=target).files[0]
        service = report.stats.get("service")
        if service is None:
            assert report.examples == 0
            continue
        passed_over = service["rows_skipped"] + service["rows_dropped"] + service["blank_lines"]
        assert service["rows"] + passed_over == report.lines
        assert service["rows"] - service["rows_with_errors"] == report.examples
        assert target != "local" or service["rows"] == report.examples
        text = describe_prediction(report)
        assert f"{report.examples:,}" in text
        if "tokens" in report.stats:
            assert (
                sum(bar["rows"] for bar in report.stats["tokens"]["histogram"]) == report.examples
            )


def test_rows_with_errors_that_the_service_accepts_are_counted(path: Path) -> None:
    path.write_bytes(
        file(*VALID_LINES[:3], *[row(USER, {"role": "bot", "content": "x"})] * 8, b"{")
    )
    report = validate(path).files[0]
    [few] = [each.message for each in report.problems if each.code == "SERVICE_FEW_ROWS"]
    [lost] = [each.message for each in report.problems if each.code == "SERVICE_ROWS_SKIPPED"]
    assert few.endswith("11, 3 of them without errors")
    assert lost.endswith("11 left, 3 of them without errors")
    assert describe_prediction(report).startswith(
        "azureml would take 11 rows as they are: 3 without errors, 8"
    )


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (0, "a number above 0"),
        (-1, "a number above 0"),
        (float("inf"), "a number above 0"),
        (float("nan"), "a number, not nan"),
    ],
)
def test_invalid_epochs_are_rejected(path: Path, epochs: float, expected: str) -> None:
    path.write_bytes(file(*VALID_LINES))
    with pytest.raises(ConfigError, match=f"epochs= must be {expected}"):
        validate(path, epochs=epochs)


def test_row_in_two_training_files_leaks_once(path: Path) -> None:
    path.write_bytes(file(*VALID_LINES))
    assert validate(path, path, validation=path).files[2].counts["QUALITY_LEAKAGE"] == len(
        VALID_LINES
    )


def test_file_name_cannot_add_lines_to_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "a\n::error::x\x1b[2J.jsonl"
    bad.write_bytes(b"{}\n")
    for on_github in ("", "1"):
        monkeypatch.setenv("GITHUB_ACTIONS", on_github)
        assert main(["validate", str(bad)]) == 3
        output = capsys.readouterr().out
        assert "\x1b" not in output
        assert not any(line.startswith("::error::") for line in output.splitlines())
