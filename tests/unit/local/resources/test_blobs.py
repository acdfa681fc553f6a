"""Blobs: conditional requests, uncommitted blocks, checksums."""

from __future__ import annotations

import base64
import hashlib
import threading

import pytest

from maas_client.local.resources.blobs import (
    BlobProperties,
    BlobStore,
    Conditions,
    check_md5,
    parse_etags,
)
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.files import FileStore
from maas_client.local.state.store import Store

ANY = Conditions()
NEW = Conditions(if_none_match=("*",))


@pytest.fixture
def blobs(tmp_path):
    store = Store(tmp_path / "facts.db", durable=False)
    yield BlobStore(store, FileStore(tmp_path), durable=False)
    store.close()


def put(blobs, name, data, conditions=ANY, properties=None):
    with blobs.draft() as draft:
        draft.write(data)
        return blobs.put("c", name, draft, properties or BlobProperties(), conditions)


def block(blobs, name, n, data):
    with blobs.draft() as draft:
        draft.write(data)
        blobs.put_block("c", name, bid(n), draft)


def bid(n):
    return base64.b64encode(f"{n:08d}".encode()).decode()


def read(blobs, name):
    return blobs._files.content_path(blobs.get("c", name).body["content"]).read_bytes()


def contents(blobs):
    return len(list(blobs._files._contents.iterdir()))


def test_put_and_read(blobs):
    blob = put(
        blobs, "a/../b", b"hello", properties=BlobProperties({"content-type": "x/y"}, {"k": "v"})
    )
    assert read(blobs, "a/../b") == b"hello"
    assert blob.body["headers"]["content-type"] == "x/y"
    assert blob.body["metadata"] == {"k": "v"}
    md5 = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    assert blob.body["headers"]["content-md5"] == md5


def test_if_none_match_star_refuses_an_existing_blob_and_deletes_the_bytes(blobs):
    put(blobs, "a", b"one", NEW)
    with pytest.raises(ApiError) as refused:
        put(blobs, "a", b"two", NEW)
    assert (refused.value.status, refused.value.code) == (409, "BlobAlreadyExists")
    assert read(blobs, "a") == b"one"
    assert contents(blobs) == 1


def test_if_match_is_checked(blobs):
    first = put(blobs, "a", b"one").body["etag"]
    second = put(blobs, "a", b"two", Conditions(if_match=(first,))).body["etag"]
    assert first != second
    with pytest.raises(ApiError) as refused:
        put(blobs, "a", b"three", Conditions(if_match=(first,)))
    assert (refused.value.status, refused.value.code) == (412, "ConditionNotMet")
    assert read(blobs, "a") == b"two"
    with pytest.raises(ApiError):
        put(blobs, "missing", b"x", Conditions(if_match=("*",)))


def test_one_of_many_conditional_puts_succeeds(blobs):
    stored, refused = [], []

    def try_put(n):
        try:
            put(blobs, "race", str(n).encode(), NEW)
            stored.append(n)
        except ApiError:
            refused.append(n)

    threads = [threading.Thread(target=try_put, args=(n,)) for n in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(stored) == 1
    assert len(refused) == 15
    assert read(blobs, "race") == str(stored[0]).encode()


def test_uncommitted_blocks_are_invisible(blobs):
    block(blobs, "big", 0, b"aaa")
    with pytest.raises(ApiError) as refused:
        blobs.get("c", "big")
    assert refused.value.code == "BlobNotFound"
    assert list(blobs.list_blobs("c", "")) == []
    assert [b.key for b in blobs.uncommitted_blocks("c", "big")] == [bid(0)]


def test_block_list_defines_the_content(blobs):
    for n, data in enumerate((b"aaa", b"bb", b"c")):
        block(blobs, "big", n, data)
    blobs.commit_blocks("c", "big", [("Latest", bid(2)), ("Latest", bid(0))], BlobProperties(), ANY)
    assert read(blobs, "big") == b"caaa"
    assert blobs.uncommitted_blocks("c", "big") == []  # blocks outside the list are deleted
    assert contents(blobs) == 1


def test_subset_of_committed_blocks_can_be_committed_again(blobs):
    for n, data in enumerate((b"aaa", b"bb", b"c")):
        block(blobs, "big", n, data)
    block_list = [("Latest", bid(n)) for n in range(3)]
    blobs.commit_blocks("c", "big", block_list, BlobProperties(), ANY)
    block(blobs, "big", 9, b"new")
    blobs.commit_blocks(
        "c", "big", [("Committed", bid(1)), ("Uncommitted", bid(9))], BlobProperties(), ANY
    )
    assert read(blobs, "big") == b"bbnew"


@pytest.mark.parametrize("kind", ["Latest", "Committed", "Uncommitted"])
def test_list_with_unknown_blocks_changes_nothing(blobs, kind):
    put(blobs, "big", b"before")
    with pytest.raises(ApiError) as refused:
        blobs.commit_blocks("c", "big", [(kind, bid(5))], BlobProperties(), ANY)
    assert refused.value.code == "InvalidBlockList"
    assert read(blobs, "big") == b"before"
    assert contents(blobs) == 1


def test_block_ids_of_a_blob_have_the_same_length(blobs):
    block(blobs, "big", 0, b"a")
    with blobs.draft() as draft, pytest.raises(ApiError):
        blobs.put_block("c", "big", base64.b64encode(b"x").decode(), draft)
    with blobs.draft() as draft, pytest.raises(ApiError):
        blobs.put_block("c", "big", "no base64!", draft)


def test_block_sent_twice_is_replaced(blobs):
    block(blobs, "big", 0, b"first")
    block(blobs, "big", 0, b"second")
    assert contents(blobs) == 1
    blobs.commit_blocks("c", "big", [("Latest", bid(0))], BlobProperties(), ANY)
    assert read(blobs, "big") == b"second"


def test_bytes_of_an_overwritten_blob_stay_while_a_job_references_them(blobs):
    content = put(blobs, "a", b"one").body["content"]
    with blobs._store.write() as writer:
        writer.add_reference(content, "job:1")
    put(blobs, "a", b"two")
    blobs.delete("c", "a", ANY)
    assert blobs._files.content_path(content).read_bytes() == b"one"
    assert contents(blobs) == 1


def test_metadata_changes_the_etag_and_not_the_content(blobs):
    before = put(blobs, "a", b"one")
    after = blobs.set_metadata("c", "a", {"x": "1"}, ANY)
    assert after.body["etag"] != before.body["etag"]
    assert (after.body["content"], after.body["metadata"]) == (before.body["content"], {"x": "1"})


def test_names_are_case_sensitive(blobs):
    put(blobs, "a", b"one")
    with pytest.raises(ApiError):
        blobs.get("c", "A")


@pytest.mark.parametrize(
    ("header", "etags"),
    [
        (None, None),
        ("*", ("*",)),
        ('"0x1"', ('"0x1"',)),
        ("0x1", ('"0x1"',)),
        ('W/"0x1"', ('"0x1"',)),
        ('"a", "b"', ('"a"', '"b"')),
        ("", ()),
    ],
)
def test_parse_etags(header, etags):
    assert parse_etags(header) == etags


def test_md5_of_received_bytes_is_checked(blobs):
    with blobs.draft() as draft:
        draft.write(b"abc")
        check_md5(None, draft)
        check_md5(base64.b64encode(hashlib.md5(b"abc").digest()).decode(), draft)
        with pytest.raises(ApiError, match="did not match"):
            check_md5(base64.b64encode(hashlib.md5(b"abd").digest()).decode(), draft)
        for bad in ("", "zz", "not base64", base64.b64encode(b"short").decode()):
            with pytest.raises(ApiError) as refused:
                check_md5(bad, draft)
            assert refused.value.code == "InvalidMd5"
