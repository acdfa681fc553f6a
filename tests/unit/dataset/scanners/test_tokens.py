"""Token counts: exact counts equal the trainer's, estimates lie within their bounds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_client.chat import TEMPLATES
from maas_client.dataset.scanners import message_texts
from maas_client.dataset.scanners.token_counting import (
    EstimatedCounter,
    ExactCounter,
    load_token_counter,
    token_bounds,
)
from maas_client.dataset.scanners.tokens import (
    TokenLimits,
    TokenScanner,
    histogram,
    percentiles,
)
from maas_client.errors import ConfigError
from tests.shared_data import SHARED, needs_shared_data

PROSE = [
    "The ferry leaves at nine, so there is time for a coffee before the museum opens.",
    "Die Öffnungszeiten der Bücherei werden während der Sommerferien geändert.",
    "Сегодня утром на площади собрались люди, чтобы обсудить новые правила движения.",
    "今天上午，委员会决定在暑假期间调整图书馆的开放时间。",
    "def total(rows):\n    return sum(row['price'] * row['count'] for row in rows)\n",
    '{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}',
    "12 + 30 = 42, and 1,000,000 / 8 = 125,000.",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer, trained here, in a folder as the hub has it."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROSE * 20, trainer)
    place = tmp_path_factory.mktemp("bases") / "microsoft--Phi-3-mini-4k-instruct"
    place.mkdir()
    tokenizer.save(str(place / "tokenizer.json"))
    return place


def rows_of() -> list[dict[str, Any]]:
    def make_row(*messages: tuple[str, str]) -> dict[str, Any]:
        return {"messages": [{"role": role, "content": text} for role, text in messages]}

    return [
        make_row(("user", PROSE[0]), ("assistant", PROSE[1])),
        make_row(("system", "Be kind."), ("user", PROSE[2]), ("assistant", PROSE[3])),
        make_row(("user", "a"), ("assistant", " b"), ("user", PROSE[4]), ("assistant", "c")),
    ]


def test_exact_counts_equal_those_of_the_trainer(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from maas_client.local.training.data import tokenize_rows

    counter = load_token_counter("Phi-3-mini-4k-instruct", folder)
    assert counter.is_exact
    rows = rows_of()
    template = counter.template  # type: ignore[attr-defined]  # it is an Exact
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    examples, _ = tokenize_rows(list(enumerate(rows, 1)), fast, template, 10_000)
    sizes = counter.sizes(rows, message_texts(rows))
    assert sizes.totals[:2] == [len(example.input_ids) for example in examples][:2]
    assert sizes.learned[:2] == [example.learned_tokens for example in examples][:2]
    assert sizes.prompt(0) == examples[0].loss_mask.index(True)


def test_available_tokenizer_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAAS_CACHE_DIR", str(folder.parent))
    assert load_token_counter("Phi-3-mini-4k-instruct").is_exact
    assert not load_token_counter("Phi-4-mini-instruct").is_exact
    snapshot = tmp_path / "hub" / "models--microsoft--phi-4" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert load_token_counter("Phi-4").is_exact


def test_folder_without_a_tokenizer_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read a tokenizer"):
        load_token_counter("Phi-4", tmp_path)


def test_broken_tokenizer_in_the_cache_falls_back_to_an_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "microsoft--Phi-3-mini-4k-instruct"
    place.mkdir()
    (place / "tokenizer.json").write_text("{}")
    monkeypatch.setenv("MAAS_CACHE_DIR", str(tmp_path))
    assert not load_token_counter("Phi-3-mini-4k-instruct").is_exact


def test_count_without_a_model_is_an_estimate() -> None:
    assert isinstance(load_token_counter(None), EstimatedCounter)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80) | st.sampled_from(PROSE))
def test_bounds_hold_for_real_tokenizers(text: str) -> None:
    quicktok = pytest.importorskip("quicktok")
    low, high = token_bounds(text)
    for name in ("cl100k_base", "o200k_base"):
        encoding = quicktok.get_encoding(name)
        assert low <= len(encoding.encode_ordinary(text)) <= high


@needs_shared_data
@pytest.mark.parametrize(
    ("model", "name"), [("Phi-4", "cl100k_base"), ("Phi-4-mini-instruct", "o200k_base")]
)
def test_estimates_are_within_a_quarter_on_real_data(
    model: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quicktok = pytest.importorskip("quicktok")
    monkeypatch.setenv("MAAS_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    encoding = quicktok.get_encoding(name)
    for path in (SHARED / "data").glob("*.jsonl"):
        lines = path.read_bytes().splitlines()
        rows = [json.loads(line) for line in lines]
        scanner = TokenScanner(load_token_counter(model))
        scanner.feed(range(1, len(rows) + 1), lines, rows)
        tokens = scanner.stats()["tokens"]
        real = sum(
            len(encoding.encode_ordinary(json.dumps(part) if isinstance(part, list) else str(part)))
            for row in rows
            for part in [
                *(m.get("content") or m.get("tool_calls") or "" for m in row["messages"]),
                row.get("tools") or "",
            ]
        ) + 4 * sum(len(row["messages"]) for row in rows)
        assert abs(tokens["total"] / real - 1) < 0.25, (path.name, tokens["total"], real)
        assert tokens["at_least"] <= real <= tokens["at_most"]


def test_lazy_rows_and_dictionaries_have_the_same_estimate() -> None:
    rows = rows_of()
    estimate = EstimatedCounter()
    fast = estimate.sizes(rows, message_texts(rows))
    slow = [estimate._estimate_row(row) for row in rows]
    assert all(abs(a - b) <= 8 for a, (b, _, _) in zip(fast.totals, slow, strict=True))
    assert all(abs(a - b) <= 4 for a, (_, b, _) in zip(fast.learned, slow, strict=True))


def test_counts_of_many_blocks_equal_those_of_one(make_row: Any, run_scanner: Any) -> None:
    rows = [make_row("How many?", "word " * (at % 700)) for at in range(2100)]
    scanners = [TokenScanner(EstimatedCounter()) for _ in range(2)]
    for scanner, block in zip(scanners, (90, len(rows)), strict=True):
        run_scanner(scanner, rows, block=block)
    blocks, whole = (scanner.stats()["tokens"] for scanner in scanners)
    for figures in (blocks, whole):
        figures.pop("at_least")  # words of the first half megabyte, to the end of a block
    assert blocks == whole
    assert sum(bar["rows"] for bar in blocks["histogram"]) == len(rows)


def test_truncated_rows_are_reported(make_row: Any, run_scanner: Any) -> None:
    long = "word " * 1000
    rows = [make_row("short", "fine"), make_row("short", long), make_row(long, "fine")]
    issues = run_scanner(TokenScanner(EstimatedCounter(), TokenLimits(per_row=500)), rows)
    assert [(f.line, f.code) for f in issues] == [
        (2, "SERVICE_TRUNCATED"),
        (3, "SERVICE_TRUNCATED"),
        (3, "SERVICE_NOTHING_LEFT"),
    ]
    assert "the model is trained on 500" in issues[0].detail


def test_estimate_never_reports_that_nothing_is_left(make_row: Any, run_scanner: Any) -> None:
    issues = run_scanner(
        TokenScanner(EstimatedCounter(), TokenLimits(per_row=100)), [make_row("x" * 600, "fine")]
    )
    assert [f.code for f in issues] == ["SERVICE_TRUNCATED"]


def test_token_limit_of_the_service_is_checked(make_row: Any, run_scanner: Any) -> None:
    rows = [make_row("word " * 100, "yes " * 100)] * 20
    sure = run_scanner(TokenScanner(EstimatedCounter(), TokenLimits(per_file=3000, epochs=3)), rows)
    assert [f.code for f in sure] == ["SERVICE_TOO_MANY_TOKENS"]
    perhaps = run_scanner(
        TokenScanner(EstimatedCounter(), TokenLimits(per_file=6500, epochs=1)), rows
    )
    assert [f.code for f in perhaps] == ["SERVICE_MANY_TOKENS"]
    assert not run_scanner(
        TokenScanner(EstimatedCounter(), TokenLimits(per_file=10**9, epochs=3)), rows
    )


def test_percentiles_use_the_nearest_rank() -> None:
    assert percentiles(Counter(range(1, 101))) == {
        "min": 1, "mean": 50.5, "p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100,
    }  # fmt: skip
    assert percentiles(Counter([7]))["p99"] == 7


def test_histogram_bars_are_round_and_add_up() -> None:
    times = Counter({10: 300, 999: 200, 40_000: 1})
    *bars, rest = histogram(times)
    assert sum(bar["rows"] for bar in bars) == 500
    assert {bar["to"] - bar["from"] for bar in bars} == {50}
    assert rest == {"from": 1000, "to": 40_001, "rows": 1}
    assert bars[0] == {"from": 0, "to": 50, "rows": 300}
    assert histogram(Counter({7: 1})) == [{"from": 7, "to": 8, "rows": 1}]


def test_rows_that_the_template_does_not_support_are_counted(folder: Path) -> None:
    counter = ExactCounter(
        load_token_counter("Phi-3-mini-4k-instruct", folder).tokenizer, TEMPLATES["phi3"], "x"
    )  # type: ignore[attr-defined]  # it is an Exact
    row = {"messages": [{"role": "tool", "content": "x"}]}
    assert counter.sizes([row], [None]).totals == [0]
