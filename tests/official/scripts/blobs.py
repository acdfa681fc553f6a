"""azure-storage-blob, unmodified, on the workspace's container: sizes, blocks, conditions, ranges."""

import hashlib
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.ai.ml import MLClient  # noqa: TID253 - an application's own script
from azure.core.exceptions import (  # noqa: TID253 - as above
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.identity import ClientSecretCredential  # noqa: TID253 - as above
from azure.storage.blob import (  # noqa: TID253 - as above
    BlobBlock,
    BlobClient,
    ContainerClient,
    ContentSettings,
    ImmutabilityPolicy,
    generate_blob_sas,
)

credential = ClientSecretCredential("72f988bf-86f1-41af-91ab-2d7cd011db47", "app", "a-secret")
workspace = MLClient(credential, "11111111-2222-3333-4444-555555555555", "rg1", "proj1")
store = workspace.datastores.get("workspaceblobstore", include_secrets=True)
account = f"{store.protocol}://{store.account_name}.blob.{store.endpoint}"
sas = store.credentials.sas_token
container = ContainerClient(account, store.container_name, credential=sas)
lead = uuid.uuid4().hex


def blob(name: str, **kwargs: object) -> BlobClient:
    return BlobClient(account, store.container_name, f"{lead}/{name}", credential=sas, **kwargs)


def small() -> None:
    """Upload in one request; metadata; an existing blob is not overwritten by default."""
    client = blob("small.jsonl")
    assert not client.exists()
    with pytest.raises(ResourceNotFoundError):
        client.get_blob_properties()
    client.upload_blob(b"hello", metadata={"sha256": "abc"}, validate_content=True)
    properties = client.get_blob_properties()
    assert (properties.size, properties.metadata, properties.blob_type) == (
        5,
        {"sha256": "abc"},
        "BlockBlob",
    )
    assert properties.content_settings.content_md5 == bytearray(hashlib.md5(b"hello").digest())
    with pytest.raises(ResourceExistsError) as existing:
        client.upload_blob(b"other")
    assert existing.value.error_code == "BlobAlreadyExists"
    assert client.download_blob().readall() == b"hello"
    client.upload_blob(b"other", overwrite=True)
    assert client.download_blob(validate_content=True).readall() == b"other"
    client.set_blob_metadata({"upload_status": "completed"})
    assert client.get_blob_properties().metadata == {"upload_status": "completed"}


def conditions() -> None:
    """ETag conditions for writes and reads."""
    client = blob("conditions")
    first = client.upload_blob(b"1")
    from azure.core import MatchConditions

    etag = {"etag": first["etag"], "match_condition": MatchConditions.IfNotModified}
    second = client.upload_blob(b"2", overwrite=True, **etag)
    assert second["etag"] != first["etag"]
    with pytest.raises(ResourceModifiedError):
        client.upload_blob(b"3", overwrite=True, **etag)
    assert client.download_blob().readall() == b"2"


def large() -> None:
    """Upload 72 MB in parallel blocks, and read ranges of it."""
    data = random.Random(0).randbytes(72 * 2**20)
    client = blob("large.bin")
    client.upload_blob(data, max_concurrency=4)
    assert client.get_blob_properties().size == len(data)
    committed, waiting = client.get_block_list("all")
    assert (len(committed), len(waiting)) == (18, 0)
    assert (
        client.download_blob(offset=70_000_000, length=1000).readall()
        == data[70_000_000:70_001_000]
    )
    whole = client.download_blob(max_concurrency=4).readall()
    assert hashlib.sha256(whole).digest() == hashlib.sha256(data).digest()
    checked = blob("checked.bin", max_single_put_size=2**20, max_block_size=2**20)
    settings = ContentSettings(content_type="application/jsonl", cache_control="no-store")
    checked.upload_blob(
        data[: 5 * 2**20],
        validate_content=True,
        max_concurrency=3,
        metadata={"a": "b"},
        content_settings=settings,
    )
    assert checked.download_blob(validate_content=True).readall() == data[: 5 * 2**20]
    properties = checked.get_blob_properties()
    assert properties.metadata == {"a": "b"}
    assert properties.content_settings.content_type == "application/jsonl"
    assert properties.content_settings.cache_control == "no-store"


def blocks() -> None:
    """Blocks are invisible until they are committed, in the order of the list."""
    client = blob("blocks")
    client.stage_block("MDAx", b"world")
    client.stage_block("MDAw", b"hello ")
    assert not client.exists()
    assert lead + "/blocks" not in [b.name for b in container.list_blobs(name_starts_with=lead)]
    assert [b.id for b in client.get_block_list("uncommitted")[1]]
    client.commit_block_list([BlobBlock("MDAw"), BlobBlock("MDAx")])
    assert client.download_blob().readall() == b"hello world"
    with pytest.raises(HttpResponseError) as bad:
        client.commit_block_list([BlobBlock("MDAy")])
    assert bad.value.error_code == "InvalidBlockList"


def lists() -> None:
    """List in pages; delete."""
    names = {f"{lead}/list/{i}" for i in range(7)}
    for name in names:
        container.upload_blob(name, b"x")
    pages = container.list_blobs(name_starts_with=f"{lead}/list/", results_per_page=3).by_page()
    listed = [[b.name for b in page] for page in pages]
    assert [len(page) for page in listed] == [3, 3, 1]
    assert {name for page in listed for name in page} == names
    container.delete_blob(sorted(names)[0])
    with pytest.raises(ResourceNotFoundError):
        container.get_blob_client(sorted(names)[0]).get_blob_properties()


def tokens() -> None:
    """An identity can access the container too; an expired SAS cannot."""
    container = BlobClient(
        account, store.container_name, f"{lead}/small.jsonl", credential=credential
    )
    assert container.download_blob().readall() == b"other"
    past = sas.replace("se=2", "se=1")
    expired = BlobClient(account, store.container_name, f"{lead}/small.jsonl", credential=past)
    with pytest.raises(HttpResponseError) as refused:
        expired.download_blob()
    assert refused.value.error_code == "AuthenticationFailed"


def with_permission(permission: str, name: str, **options: Any) -> BlobClient:
    """Return a client with a SAS for one blob, signed with an account key."""
    expiry = datetime.now(UTC) + timedelta(hours=1)
    token = generate_blob_sas(
        store.account_name, store.container_name, f"{lead}/{name}", account_key="QUFB",
        permission=permission, expiry=expiry, **options,
    )  # fmt: skip
    return BlobClient(account, store.container_name, f"{lead}/{name}", credential=token)


def second_acts() -> None:
    """Conditions and permissions are honoured; what is not implemented is 501 and changes nothing."""
    client = blob("second")
    client.upload_blob(b"0123456789", metadata={"k": "v"})
    past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    lease = "6f0c1dbb-0c0a-4a1d-b1b7-3c2f0c1f2a11"
    policy = ImmutabilityPolicy(expiry_time=future, policy_mode="Unlocked")
    acts: list[tuple[int, Callable[[], object]]] = [
        (501, client.create_snapshot),
        (501, client.acquire_lease),
        (501, client.get_blob_tags),
        (501, client.undelete_blob),
        (501, lambda: client.set_blob_tags({"a": "b"})),
        (501, lambda: client.set_standard_blob_tier("Cool")),
        (501, lambda: client.set_immutability_policy(policy)),
        (501, lambda: client.set_legal_hold(True)),
        (501, lambda: client.upload_blob(b"x", overwrite=True, tags={"a": "b"})),
        (501, lambda: client.upload_blob(b"x", overwrite=True, lease=lease)),
        (501, lambda: client.upload_blob(b"x", overwrite=True, encryption_scope="s")),
        (501, lambda: client.delete_blob(lease=lease)),
        (501, lambda: client.delete_blob(delete_snapshots="only")),
        (501, lambda: client.upload_blob_from_url(f"{client.url}?{sas}", overwrite=True)),
        (501, lambda: client.commit_block_list([], tags={"a": "b"})),
        (501, lambda: list(container.find_blobs_by_tags("a='b'"))),
        (501, lambda: list(container.list_blobs(include=["tags"]))),
        (501, lambda: container.delete_blobs(f"{lead}/second")),
        (412, lambda: client.delete_blob(if_modified_since=future)),
        (412, lambda: client.get_blob_properties(if_unmodified_since=past)),
        (416, lambda: client.download_blob(offset=20, length=3)),
        (403, lambda: with_permission("r", "second").upload_blob(b"x", overwrite=True)),
        (403, lambda: with_permission("c", "second").upload_blob(b"x", overwrite=True)),
        (403, lambda: with_permission("w", "second").delete_blob()),
        (403, lambda: with_permission("r", "second").set_blob_metadata({"q": "1"})),
        (403, lambda: with_permission("t", "second").download_blob()),
        (403, lambda: with_permission("r", "second", start=future).download_blob()),
        (403, lambda: with_permission("r", "second", ip="203.0.113.9").download_blob()),
    ]
    for number, (status, act) in enumerate(acts):
        with pytest.raises(HttpResponseError) as refused:
            act()
        assert refused.value.status_code == status, (number, refused.value)
    assert client.download_blob(offset=8, length=30).readall() == b"89"
    assert client.download_blob().readall() == b"0123456789"
    assert client.get_blob_properties().metadata == {"k": "v"}
    with_permission("c", "third").upload_blob(b"new")
    override = with_permission("r", "third", content_type="text/x").get_blob_properties()
    assert override.content_settings.content_type == "text/x"


small()
conditions()
large()
blocks()
lists()
tokens()
second_acts()
print("answered")
