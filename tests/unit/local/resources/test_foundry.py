"""The Foundry resource without HTTP: expiry, training tiers, model formats, tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maas_client.catalog import find_model
from maas_client.local.http import security
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
    store = Store(tmp_path / "facts.db", durable=False)
    yield store
    store.close()


@pytest.fixture
def files(store: Store, tmp_path: Path) -> FoundryFiles:
    return FoundryFiles(store, FileStore(tmp_path), durable=False)


def advance_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)


def contents(tmp_path: Path) -> int:
    return len(list((tmp_path / "contents").iterdir()))


def test_file_expires(files: FoundryFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    with files.draft() as draft:
        draft.write(ROW)
        file = files.add(draft, "t.jsonl", expires_s=1_209_600)
    assert files.get(file.key).state == "processed"
    advance_clock(monkeypatch, 1_209_601)
    with pytest.raises(ApiError, match="No such file"):
        files.get(file.key)
    assert not files.all()


def test_upload_expires_after_an_hour_and_its_parts_are_deleted(
    store: Store, files: FoundryFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = FoundryUploads(store, FileStore(tmp_path), files)
    upload = uploads.create("t.jsonl", len(ROW))
    with files.draft() as draft:
        draft.write(ROW)
        part_id, _ = uploads.add_part(upload.key, draft)
    assert contents(tmp_path) == 1
    advance_clock(monkeypatch, 3601)
    with pytest.raises(ApiError, match="expired"):
        uploads.complete(upload.key, [part_id], None)
    assert uploads.get(upload.key).state == "expired"
    assert contents(tmp_path) == 0


def test_abandoned_upload_expires_when_the_next_one_starts(
    store: Store, files: FoundryFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = FoundryUploads(store, FileStore(tmp_path), files)
    abandoned = uploads.create("t.jsonl", 10)
    with files.draft() as draft:
        draft.write(ROW)
        uploads.add_part(abandoned.key, draft)
    advance_clock(monkeypatch, 3601)
    assert uploads.create("u.jsonl", 10).state == "pending"
    assert uploads.get(abandoned.key).state == "expired"
    assert contents(tmp_path) == 0


def test_parts_are_deleted_when_the_upload_is_completed(
    store: Store, files: FoundryFiles, tmp_path: Path
) -> None:
    uploads = FoundryUploads(store, FileStore(tmp_path), files)
    upload = uploads.create("t.jsonl", 2 * len(ROW))
    parts = []
    for _ in range(2):
        with files.draft() as draft:
            draft.write(ROW)
            parts.append(uploads.add_part(upload.key, draft)[0])
    _, file = uploads.complete(upload.key, parts, None)
    assert files.path(file).read_bytes() == ROW * 2
    assert contents(tmp_path) == 1
    files.delete(file.key)
    assert contents(tmp_path) == 0


@pytest.mark.parametrize("tier", ["globalStandard", "globalstandard", "GLOBALSTANDARD", 1, "1"])
def test_training_tier_in_any_case_and_as_a_number(tier: object) -> None:
    _check_training_type(tier, find_model("Ministral-3B"))
    _check_training_type(tier, find_model("Phi-3-mini-4k-instruct"))


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano"])
def test_missing_training_tier_is_standard_where_the_model_has_it(model: str) -> None:
    _check_training_type(None, find_model(model))


@pytest.mark.parametrize("model", ["Ministral-3B", "Phi-4-mini-instruct", "gpt-oss-120b"])
def test_missing_training_tier_is_named_where_the_model_has_no_standard(model: str) -> None:
    with pytest.raises(ApiError, match="pass trainingType, such as GlobalStandard"):
        _check_training_type(None, find_model(model))


@pytest.mark.parametrize(
    ("tier", "message"),
    [
        (None, "base model does not support fine-tuning"),
        ("standard", "with Standard TrainingType"),
        ("developerTier", "with Developer TrainingType"),
        ("express", "must be one of"),
    ],
)
def test_other_training_tiers_are_refused(tier: object, message: str) -> None:
    with pytest.raises(ApiError, match=message):
        _check_training_type(tier, find_model("Ministral-3B"))


def test_every_state_has_a_status_of_the_service() -> None:
    assert set(STATUS_BY_STATE) == set(TRANSITIONS)
    terminal = {"succeeded", "failed", "cancelled"}
    assert set(STATUS_BY_STATE.values()) == {"pending", "running", "pausing", "paused"} | terminal


@pytest.mark.parametrize(
    ("model", "model_format"),
    [
        ("Ministral-3B", "Mistral AI"),
        ("gpt-oss-20b", "Microsoft"),
        ("Llama-3.3-70B-Instruct", "Meta"),
        ("Qwen3-32B", "Alibaba"),
        ("Phi-4", "Microsoft"),
        ("nobody-knows", None),
    ],
)
def test_model_format_is_the_providers(
    model: str, model_format: str | None, tmp_path: Path
) -> None:
    assert provider_format(model) == model_format
    store = Store(tmp_path / "facts.db", durable=False)
    if model_format is not None:
        request = {"properties": {"model": {"format": model_format, "name": f"{model}.ft-0a"}}}
        check_request(store, request)
        request["properties"]["model"]["format"] = model_format.lower()
        with pytest.raises(ApiError, match="format"):
            check_request(store, request)
    store.close()


def test_token_is_valid_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    token = security.issue_token(b"secret", "tenant", "client", "https://management.azure.com")
    assert security.is_valid_token(b"secret", token)
    assert not security.is_valid_token(b"other", token)
    head, body, signature = token.split(".")
    for forged in (f"{head}.{body}x.{signature}", f"{head}.{body}.", f".{signature}", "", "é.é.é"):
        assert not security.is_valid_token(b"secret", forged)
    advance_clock(monkeypatch, security.TOKEN_LIFETIME_S + 1)
    assert not security.is_valid_token(b"secret", token)
