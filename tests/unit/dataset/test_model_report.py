"""A report derived for a model equals the one that ``validate`` gives for it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maas_client.catalog import load_models
from maas_client.chat import TEMPLATES
from maas_client.dataset.file_validator import ValidateOptions, check_files
from maas_client.dataset.model_report import report_for_model
from maas_client.dataset.rules.context import TARGETS, TOKENS_BEGIN_WITH
from maas_client.types.report import FileReport
from tests.fuzz import mutations

MODELS = sorted(load_models())
TOKENS = sorted({token for template in TEMPLATES.values() for token in template.special_tokens})
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": [1e15, 2]}'}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
COMPARED_TOKENS = ("at_least", "at_most", "row_limit", "rows_over_limit")
"""These figures do not depend on how a model's tokens are estimated."""


def message(role: str, content: Any, **members: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **members}


def make_file(rng: random.Random, sizes: Sequence[int] = (1, 1, 1, 40, 300)) -> bytes:
    """Return a file of mostly ordinary rows, whose other rows depend on a few random choices."""
    features = [feature for feature in FEATURES if rng.random() < 0.15]
    answer = rng.choice(("an answer %d", "größer %d", "答案是 %d。", "<p>It is < %d</p>", "😀 %d"))
    size = rng.choice(sizes)
    lines = []
    for index in range(rng.randint(3, 25)):
        text = "\n".join([answer % index] * size)
        row: dict[str, Any] = {
            "messages": [message("user", f"q {index}"), message("assistant", text)]
        }
        if features and rng.random() < 0.3:
            feature = rng.choice(features)
            if feature == "broken line":
                lines.append(rng.choice(mutations.BASES))
                continue
            change(row, feature, rng)
        lines.append(json.dumps(row, ensure_ascii=rng.random() < 0.5).encode())
    data = b"\n".join(lines) + b"\n"
    return data.replace(b"<", b"\\u003c") if rng.random() < 0.2 else data


FEATURES = (
    "system", "late system", "blank system", "token", "tools", "unused tools", "result", "parts",
    "weight", "key", "blank", "email", "broken line", "long row",
)  # fmt: skip


def change(row: dict[str, Any], feature: str, rng: random.Random) -> None:
    messages = row["messages"]
    if feature in ("system", "blank system"):
        messages.insert(0, message("system", " " if feature == "blank system" else "Be brief."))
    elif feature == "late system":
        messages.insert(1, message("system", "Be brief."))
    elif feature == "token":
        rng.choice(messages)["content"] += f" {rng.choice(TOKENS)} "
    elif feature == "tools":
        row["tools"] = [TOOL]
    elif feature == "unused tools":
        row["tools"] = []
    elif feature == "result":
        calls = message("assistant", None, tool_calls=[CALL])
        messages[1:1] = [calls, message("tool", "3", tool_call_id="c1")]
    elif feature == "parts":
        messages[0]["content"] = [{"type": "text", "text": messages[0]["content"]}]
    elif feature == "weight":
        messages[1]["weight"] = rng.choice((0, 1))
    elif feature == "key":
        row["other"] = rng.choice(TOKENS)
    elif feature == "blank":
        messages[1]["content"] = " \n"
    elif feature == "email":
        messages[1]["content"] += " Write to anna.bell@contoso.com."
    elif feature == "long row":
        messages[1]["content"] = "word.\n" * rng.choice((1000, 3000))


def comparable(report: FileReport) -> FileReport:
    """Return a report without the figures of tokens that a derived report does not have."""
    stats = {**report.stats}
    if "tokens" in stats:
        stats["tokens"] = {key: stats["tokens"].get(key) for key in COMPARED_TOKENS}
        stats["billed_tokens"] = {**stats["billed_tokens"], "likely": None}
    return report.model_copy(update={"stats": stats})


def derive(
    path: Path, target: str, model: str, *, needs_token_bounds: bool = False, **options: Any
) -> tuple[FileReport, FileReport | None]:
    """Return the report of ``validate`` for a model, and the derived one."""
    general, (features,) = check_files([path], None, ValidateOptions(target=target, **options))
    expected, _ = check_files([path], None, ValidateOptions(target=target, model=model, **options))
    derived = report_for_model(
        general.files[0],
        features,
        target=target,
        model=model,
        needs_token_bounds=needs_token_bounds,
    )
    return expected.files[0], derived


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("content", "files"), [(True, 12), (False, 12)])
def test_derived_report_equals_the_report_of_validate(
    tmp_path: Path, target: str, content: bool, files: int
) -> None:
    path = tmp_path / "data.jsonl"
    equal = different = 0
    for seed in range(files):
        path.write_bytes(make_file(random.Random(seed)))
        options = ValidateOptions(target=target, content=content)
        general, (features,) = check_files([path], None, options)
        for model in MODELS:
            report, _ = check_files([path], None, replace(options, model=model))
            (expected,) = report.files
            derived = report_for_model(general.files[0], features, target=target, model=model)
            if derived is None:
                different += expected.counts != general.files[0].counts
            else:
                equal += 1
                assert comparable(derived) == comparable(expected), (seed, model)
    assert equal > files
    assert different > files


@pytest.mark.parametrize("model", MODELS)
def test_ordinary_file_is_not_validated_again(tmp_path: Path, model: str) -> None:
    path = tmp_path / "data.jsonl"
    rows = [
        {"messages": [message("user", f"Is {i} < {i + 1}?"), message("assistant", f"<b>{i}</b>")]}
        for i in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for target in TARGETS:
        expected, derived = derive(path, target, model)
        is_tunable = target in load_models()[model].tunable_on
        assert (derived is not None) == is_tunable
        if derived is not None:
            assert comparable(derived) == comparable(expected)


def test_model_that_only_the_service_knows(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(make_file(random.Random(1)))
    model = "azureml://registries/azureml/models/Unknown-7B/versions/1"
    expected, derived = derive(path, "azureml", model)
    assert derived == expected


@pytest.fixture
def byte_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every catalog model a tokenizer with one token per byte, which no tokenizer exceeds."""
    tokenizers = pytest.importorskip("tokenizers")
    characters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {character: index for index, character in enumerate(sorted(characters))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    cache = tmp_path / "cache"
    for model in load_models().values():
        if model.huggingface_id:
            folder = cache / model.huggingface_id.replace("/", "--")
            folder.mkdir(parents=True)
            tokenizer.save(str(folder / "tokenizer.json"))
    monkeypatch.setenv("MAAS_CACHE_DIR", str(cache))


@pytest.mark.usefixtures("byte_tokenizer")
def test_derived_report_equals_that_of_a_tokenizer_with_the_most_tokens(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    derived_reports = truncated = 0
    for seed in range(30):
        path.write_bytes(make_file(random.Random(seed), sizes=(1, 20, 200)))
        for model in random.Random(seed).sample(MODELS, 6):
            expected, derived = derive(path, "azureml", model)
            truncated += "SERVICE_TRUNCATED" in expected.counts
            if derived is not None:
                derived_reports += 1
                assert derived.counts == expected.counts
                assert derived.problems == expected.problems
                assert derived.examples == expected.examples
                if "tokens" in expected.stats:
                    counted = expected.stats["tokens"]
                    assert counted["rows_over_limit"] == 0
    assert derived_reports > 20
    assert truncated > 3


@pytest.mark.usefixtures("byte_tokenizer")
def test_bounds_of_a_model_with_a_tokenizer_are_not_derived(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"messages": [message("user", "q"), message("assistant", "a")]}))
    model = "Phi-4-mini-instruct"
    assert derive(path, "local", model)[1] is not None
    assert derive(path, "local", model, needs_token_bounds=True)[1] is None
    expected, derived = derive(path, "local", "tiny", needs_token_bounds=True)
    assert derived is not None
    assert comparable(derived) == comparable(expected)


def test_every_control_token_begins_with_the_same_character() -> None:
    assert all(token.startswith(TOKENS_BEGIN_WITH) for token in TOKENS)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("escaped", [False, True])
def test_control_token_is_noted(tmp_path: Path, token: str, escaped: bool) -> None:
    path = tmp_path / "data.jsonl"
    rows = [
        {"messages": [message("user", f"q {i}"), message("assistant", f"a {i} {token}")]}
        for i in range(12)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text.replace("<", "\\u003c") if escaped else text)
    assert derive(path, "local", "Phi-3-mini-4k-instruct", content=False)[1] is None


def test_file_with_too_many_tokens_for_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.jsonl"
    rows = [
        {"messages": [message("user", f"q {i}"), message("assistant", "word " * 20)]}
        for i in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for limit in (100, 300, 700, 1000, 5000):
        override = {"source": "test", "as_of": "2026-11-24",
                    "limits": {"azureml": {"tokens_times_epochs_max": limit}}}  # fmt: skip
        (tmp_path / f"{limit}.json").write_text(json.dumps(override))
        monkeypatch.setenv("MAAS_CATALOG", str(tmp_path / f"{limit}.json"))
        expected, derived = derive(path, "azureml", "Phi-4-mini-instruct")
        assert (derived is None) == (limit < 2000)
        assert derived is None or derived.counts == expected.counts
