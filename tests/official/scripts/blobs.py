"""azure-storage-blob, unmodified, on the workspace's own container: sizes, blocks, conditions, ranges."""

import hashlib
import random
import uuid

import pytest
from azure.ai.ml import MLClient  # noqa: TID253 - an application's own script
from azure.core.exceptions import (  # noqa: TID253 - as above
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.identity import ClientSecretCredential  # noqa: TID253 - as above
from azure.storage.blob import BlobBlock, BlobClient, ContainerClient  # noqa: TID253 - as above

credential = ClientSecretCredential("72f988bf-86f1-41af-91ab-2d7cd011db47", "app", "a-secret")
workspace = MLClient(credential, "11111111-2222-3333-4444-555555555555", "rg1", "proj1")
store = workspace.datastores.get("workspaceblobstore", include_secrets=True)
account = f"{store.protocol}://{store.account_name}.blob.{store.endpoint}"
sas = store.credentials.sas_token
container = ContainerClient(account, store.container_name, credential=sas)
lead = uuid.uuid4().hex


def blob(name: str, **rest: object) -> BlobClient:
    return BlobClient(account, store.container_name, f"{lead}/{name}", credential=sas, **rest)


def small() -> None:
    """One request; metadata; what lies there is not overwritten unless asked for."""
    one = blob("small.jsonl")
    assert not one.exists()
    with pytest.raises(ResourceNotFoundError):
        one.get_blob_properties()
    one.upload_blob(b"hello", metadata={"sha256": "abc"}, validate_content=True)
    known = one.get_blob_properties()
    assert (known.size, known.metadata, known.blob_type) == (5, {"sha256": "abc"}, "BlockBlob")
    assert known.content_settings.content_md5 == bytearray(hashlib.md5(b"hello").digest())
    with pytest.raises(ResourceExistsError) as there:
        one.upload_blob(b"other")
    assert there.value.error_code == "BlobAlreadyExists"
    assert one.download_blob().readall() == b"hello"
    one.upload_blob(b"other", overwrite=True)
    assert one.download_blob(validate_content=True).readall() == b"other"
    one.set_blob_metadata({"upload_status": "completed"})
    assert one.get_blob_properties().metadata == {"upload_status": "completed"}


def conditions() -> None:
    """ETags hold for writes and for reads."""
    one = blob("conditions")
    first = one.upload_blob(b"1")
    from azure.core import MatchConditions

    held = {"etag": first["etag"], "match_condition": MatchConditions.IfNotModified}
    second = one.upload_blob(b"2", overwrite=True, **held)
    assert second["etag"] != first["etag"]
    with pytest.raises(ResourceModifiedError):
        one.upload_blob(b"3", overwrite=True, **held)
    assert one.download_blob().readall() == b"2"


def large() -> None:
    """72 MB in blocks, in parallel; ranges of it; bytes equal."""
    data = random.Random(0).randbytes(72 * 2**20)
    one = blob("large.bin")
    one.upload_blob(data, max_concurrency=4)
    assert one.get_blob_properties().size == len(data)
    committed, waiting = one.get_block_list("all")
    assert (len(committed), len(waiting)) == (18, 0)
    assert (
        one.download_blob(offset=70_000_000, length=1000).readall() == data[70_000_000:70_001_000]
    )
    whole = one.download_blob(max_concurrency=4).readall()
    assert hashlib.sha256(whole).digest() == hashlib.sha256(data).digest()
    checked = blob("checked.bin", max_single_put_size=2**20, max_block_size=2**20)
    checked.upload_blob(data[: 5 * 2**20], validate_content=True, max_concurrency=3)
    assert checked.download_blob(validate_content=True).readall() == data[: 5 * 2**20]


def blocks() -> None:
    """Blocks are invisible until they are committed, in the order of the list."""
    one = blob("blocks")
    one.stage_block("MDAx", b"world")
    one.stage_block("MDAw", b"hello ")
    assert not one.exists()
    assert lead + "/blocks" not in [b.name for b in container.list_blobs(name_starts_with=lead)]
    assert [b.id for b in one.get_block_list("uncommitted")[1]]
    one.commit_block_list([BlobBlock("MDAw"), BlobBlock("MDAx")])
    assert one.download_blob().readall() == b"hello world"
    with pytest.raises(HttpResponseError) as bad:
        one.commit_block_list([BlobBlock("MDAy")])
    assert bad.value.error_code == "InvalidBlockList"


def lists() -> None:
    """Lists page; deletion deletes."""
    names = {f"{lead}/list/{i}" for i in range(7)}
    for name in names:
        container.upload_blob(name, b"x")
    pages = container.list_blobs(name_starts_with=f"{lead}/list/", results_per_page=3).by_page()
    seen = [[b.name for b in page] for page in pages]
    assert [len(page) for page in seen] == [3, 3, 1]
    assert {name for page in seen for name in page} == names
    container.delete_blob(sorted(names)[0])
    with pytest.raises(ResourceNotFoundError):
        container.get_blob_client(sorted(names)[0]).get_blob_properties()


def tokens() -> None:
    """An identity opens the container as well; an ended SAS does not."""
    named = BlobClient(account, store.container_name, f"{lead}/small.jsonl", credential=credential)
    assert named.download_blob().readall() == b"other"
    old = sas.replace("se=2", "se=1")
    ended = BlobClient(account, store.container_name, f"{lead}/small.jsonl", credential=old)
    with pytest.raises(HttpResponseError) as refused:
        ended.download_blob()
    assert refused.value.error_code == "AuthenticationFailed"


small()
conditions()
large()
blocks()
lists()
tokens()
print("answered")
