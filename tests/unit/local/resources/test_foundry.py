"""The rules of the Foundry resource, without HTTP: time, tiers, formats, tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maas_client.catalog import find_model
from maas_client.local.http import tokens
from maas_client.local.requests.foundry_job import STATUS_BY_STATE, _check_training_type
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.foundry_deployments import check_request, provider_format
from maas_client.local.resources.foundry_files import FoundryFiles, FoundryUploads
from maas_client.local.resources.job_states import TRANSITIONS
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import Store

ROW = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "facts.db", durable=False)
    yield made
    made.close()


@pytest.fixture
def files(store: Store, tmp_path: Path) -> FoundryFiles:
    return FoundryFiles(store, FileStore(tmp_path), durable=False)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)


def contents(tmp_path: Path) -> int:
    return len(list((tmp_path / "contents").iterdir()))


def test_a_file_ends_when_it_was_told_to(
    files: FoundryFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with files.draft() as draft:
        draft.write(ROW)
        held = files.add(draft, "t.jsonl", expires_s=1_209_600)
    assert files.get(held.key).state == "processed"
    later(monkeypatch, 1_209_601)
    with pytest.raises(ApiError, match="No such file"):
        files.get(held.key)
    assert not files.all()


def test_an_upload_ends_after_an_hour_and_leaves_nothing(
    store: Store, files: FoundryFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = FoundryUploads(store, FileStore(tmp_path), files)
    begun = uploads.create("t.jsonl", len(ROW))
    with files.draft() as draft:
        draft.write(ROW)
        own, _ = uploads.add_part(begun.key, draft)
    assert contents(tmp_path) == 1
    later(monkeypatch, 3601)
    with pytest.raises(ApiError, match="expired"):
        uploads.complete(begun.key, [own], None)
    assert uploads.get(begun.key).state == "expired"
    assert contents(tmp_path) == 0


def test_what_was_left_behind_goes_with_the_next(
    store: Store, files: FoundryFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = FoundryUploads(store, FileStore(tmp_path), files)
    left = uploads.create("t.jsonl", 10)
    with files.draft() as draft:
        draft.write(ROW)
        uploads.add_part(left.key, draft)
    later(monkeypatch, 3601)
    assert uploads.create("u.jsonl", 10).state == "pending"
    assert uploads.get(left.key).state == "expired"
    assert contents(tmp_path) == 0


def test_parts_are_gone_once_they_are_a_file(
    store: Store, files: FoundryFiles, tmp_path: Path
) -> None:
    uploads = FoundryUploads(store, FileStore(tmp_path), files)
    begun = uploads.create("t.jsonl", 2 * len(ROW))
    parts = []
    for _ in range(2):
        with files.draft() as draft:
            draft.write(ROW)
            parts.append(uploads.add_part(begun.key, draft)[0])
    _, file = uploads.complete(begun.key, parts, None)
    assert files.path(file).read_bytes() == ROW * 2
    assert contents(tmp_path) == 1
    files.delete(file.key)
    assert contents(tmp_path) == 0


@pytest.mark.parametrize("said", ["globalStandard", "globalstandard", "GLOBALSTANDARD", 1, "1"])
def test_the_tier_in_any_case_and_as_a_number(said: object) -> None:
    _check_training_type(said, find_model("Ministral-3B"))
    _check_training_type(said, find_model("Phi-3-mini-4k-instruct"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, "base model does not support fine-tuning"),
        ("standard", "with Standard TrainingType"),
        ("developerTier", "with DeveloperTier TrainingType"),
        ("express", "must be one of"),
    ],
)
def test_other_tiers_are_refused(said: object, told: str) -> None:
    with pytest.raises(ApiError, match=told):
        _check_training_type(said, find_model("Ministral-3B"))


def test_every_state_has_a_word_of_the_service() -> None:
    assert set(STATUS_BY_STATE) == set(TRANSITIONS)
    ends = {"succeeded", "failed", "cancelled"}
    assert set(STATUS_BY_STATE.values()) == {"pending", "running", "pausing", "paused"} | ends


@pytest.mark.parametrize(
    ("model", "form"),
    [
        ("Ministral-3B", "Mistral AI"),
        ("gpt-oss-20b", "Microsoft"),
        ("Llama-3.3-70B-Instruct", "Meta"),
        ("Qwen-32B", "Alibaba"),
        ("Phi-4", "Microsoft"),
        ("nobody-knows", None),
    ],
)
def test_formats_are_the_providers_own(model: str, form: str | None) -> None:
    assert provider_format(model) == form
    if form is not None:
        wanted = {"properties": {"model": {"format": form, "name": f"{model}.ft-0a"}}}
        check_request(wanted)
        wanted["properties"]["model"]["format"] = form.lower()
        with pytest.raises(ApiError, match="format"):
            check_request(wanted)


def test_a_token_is_ours_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    token = tokens.issue(b"secret", "tenant", "client", "https://management.azure.com")
    assert tokens.is_valid(b"secret", token)
    assert not tokens.is_valid(b"other", token)
    head, body, signature = token.split(".")
    for forged in (f"{head}.{body}x.{signature}", f"{head}.{body}.", f".{signature}", "", "é.é.é"):
        assert not tokens.is_valid(b"secret", forged)
    later(monkeypatch, tokens.TOKEN_LIFETIME_S + 1)
    assert not tokens.is_valid(b"secret", token)
