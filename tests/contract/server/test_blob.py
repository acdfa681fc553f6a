"""The blob REST API over HTTP: what the official SDK sends, and what it expects in return."""

from __future__ import annotations

import base64
import hashlib
import html
import os
from urllib.parse import quote

import httpx
import pytest

from tests.contract.server.conftest import Azure

BLOCK = {"x-ms-blob-type": "BlockBlob"}


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def bid(n: int) -> str:
    return base64.b64encode(f"{n:048d}".encode()).decode()


def quoted(text: str) -> str:
    return text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")


def commit(ids: list[str], kind: str = "Latest") -> bytes:
    rows = "".join(f"<{kind}>{i}</{kind}>" for i in ids)
    return f"<?xml version='1.0' encoding='utf-8'?>\n<BlockList>{rows}</BlockList>".encode()


def test_recorded_upload_of_azure_ai_ml(azure: Azure):
    name, data = "LocalUpload/5ae7/train.jsonl", b"x" * 984
    head = azure.blob("HEAD", name, headers={"x-ms-version": "2026-10-06"})
    assert (head.status_code, head.headers["x-ms-error-code"], head.content) == (
        404,
        "BlobNotFound",
        b"",
    )
    put = azure.blob("PUT", name, content=data, headers={
        **BLOCK, "If-None-Match": "*", "x-ms-version": "2026-10-06", "Content-Type": "application/octet-stream",
    })  # fmt: skip
    assert put.status_code == 201
    assert put.headers["etag"].startswith('"')
    assert put.headers["last-modified"].endswith("GMT")
    assert put.headers["x-ms-request-server-encrypted"] == "true"
    meta = azure.blob("PUT", name, "comp=metadata", headers={
        "x-ms-meta-upload_status": "completed", "x-ms-meta-name": "train", "x-ms-meta-version": "1",
    })  # fmt: skip
    assert meta.status_code == 200  # a 201 makes the SDK raise
    head = azure.blob("HEAD", name)
    assert head.status_code == 200
    assert head.headers["x-ms-meta-upload_status"] == "completed"
    assert head.headers["content-length"] == "984"
    assert head.headers["content-md5"] == md5(data)
    assert azure.blob("GET", name).content == data


def test_put_block_and_block_list(azure: Azure):
    parts = [os.urandom(70_000) for _ in range(3)]
    for n, part in enumerate(parts):
        response = azure.blob("PUT", "big", f"comp=block&blockid={quoted(bid(n))}", content=part)
        assert response.status_code == 201
        assert response.headers["content-md5"] == md5(part)
    assert azure.blob("HEAD", "big").status_code == 404
    waiting = azure.blob("GET", "big", "comp=blocklist&blocklisttype=all").text
    assert waiting.count("<Block>") == 3
    body = commit([bid(0), bid(1), bid(2)])
    done = azure.blob(
        "PUT",
        "big",
        "comp=blocklist",
        content=body,
        headers={"Content-MD5": md5(body), "If-None-Match": "*"},
    )
    assert done.status_code == 201, done.text
    assert azure.blob("GET", "big").content == b"".join(parts)
    repeated = azure.blob(
        "PUT", "big", "comp=blocklist", content=body, headers={"If-None-Match": "*"}
    )
    assert repeated.status_code in (400, 409)
    listed = azure.blob("GET", "big", "comp=blocklist&blocklisttype=committed").text
    assert listed.count("<Block>") == 3


@pytest.mark.parametrize(
    "body", [b"", b"<x/>", b"<BlockList><Latest>a</Latest>", b"<BlockList><Evil/></BlockList>",
             b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><BlockList><Latest>&e;</Latest></BlockList>"],
)  # fmt: skip
def test_invalid_block_lists(azure: Azure, body):
    response = azure.blob("PUT", "list", "comp=blocklist", content=body)
    assert response.status_code == 400
    assert response.headers["x-ms-error-code"] == "InvalidXmlDocument"


def test_content_md5(azure: Azure):
    bad = azure.blob("PUT", "sum", content=b"abc", headers={**BLOCK, "Content-MD5": md5(b"abd")})
    assert (bad.status_code, bad.headers["x-ms-error-code"]) == (400, "Md5Mismatch")
    assert azure.blob("HEAD", "sum").status_code == 404
    good = azure.blob("PUT", "sum", content=b"abc", headers={**BLOCK, "Content-MD5": md5(b"abc")})
    assert good.status_code == 201
    block = f"comp=block&blockid={quoted(bid(0))}"
    assert (
        azure.blob(
            "PUT", "sum2", block, content=b"x", headers={"Content-MD5": md5(b"y")}
        ).status_code
        == 400
    )


def test_etag_conditions(azure: Azure):
    one = azure.blob("PUT", "cond", content=b"1", headers=BLOCK).headers["etag"]
    conflict = azure.blob("PUT", "cond", content=b"2", headers={**BLOCK, "If-None-Match": "*"})
    assert (conflict.status_code, conflict.headers["x-ms-error-code"]) == (409, "BlobAlreadyExists")
    assert b"<Code>BlobAlreadyExists</Code>" in conflict.content
    assert azure.blob("GET", "cond", headers={"If-None-Match": one}).status_code == 304
    two = azure.blob("PUT", "cond", content=b"2", headers={**BLOCK, "If-Match": one}).headers[
        "etag"
    ]
    lost = azure.blob("PUT", "cond", content=b"3", headers={**BLOCK, "If-Match": one})
    assert (lost.status_code, lost.headers["x-ms-error-code"]) == (412, "ConditionNotMet")
    assert azure.blob("GET", "cond", headers={"If-Match": one}).status_code == 412
    assert azure.blob("GET", "cond", headers={"If-Match": two}).content == b"2"
    assert azure.blob("DELETE", "cond", headers={"If-Match": one}).status_code == 412
    assert azure.blob("DELETE", "cond").status_code == 202
    assert azure.blob("DELETE", "cond").status_code == 404


@pytest.mark.parametrize(
    ("requested", "status", "expected"),
    [("bytes=0-3", 206, b"0123"), ("bytes=4-", 206, b"456789"), ("bytes=8-100", 206, b"89"),
     ("bytes=10-12", 416, None), ("bytes=5-2", 416, None), ("rubbish", 200, b"0123456789")],
)  # fmt: skip
def test_range_requests(azure: Azure, requested, status, expected):
    azure.blob("PUT", "range", content=b"0123456789", headers=BLOCK)
    response = azure.blob("GET", "range", headers={"x-ms-range": requested})
    assert response.status_code == status
    if expected is not None:
        assert response.content == expected
    if status == 206:
        assert response.headers["content-range"].endswith("/10")


def test_empty_blob(azure: Azure):
    azure.blob("PUT", "empty", content=b"", headers=BLOCK)
    assert azure.blob("GET", "empty").content == b""
    assert azure.blob("GET", "empty", headers={"x-ms-range": "bytes=0-99"}).status_code == 416


def test_list_with_prefix_and_pages(azure: Azure):
    for n in range(5):
        azure.blob("PUT", f"list/{n}&<x>", content=b"x", headers=BLOCK)
    base, sas = azure.container()
    names, marker = [], ""
    while True:
        url = f"{base}?restype=container&comp=list&prefix=list/&maxresults=2&marker={marker}&{sas}"
        text = httpx.get(url, trust_env=False).text
        names += [p.split("</Name>")[0] for p in text.split("<Name>")[1:]]
        marker = quote(html.unescape(text.split("<NextMarker>")[1].split("</NextMarker>")[0]))
        if not marker:
            break
    assert names == [f"list/{n}&amp;&lt;x&gt;" for n in range(5)]


@pytest.mark.parametrize(
    "name",
    [
        "a/../../etc/passwd",
        "..%2f..%2fx",
        "%00x",
        "CON",
        "a\\..\\b",
        "é/日本",
        "x" * 1000,
        "a//b",
        ".",
    ],
)
def test_blob_names_are_not_paths(azure: Azure, server, name):
    put = azure.blob("PUT", "n/" + name, content=b"x", headers=BLOCK)
    assert put.status_code in (201, 404, 401), put.text  # httpx may resolve dots before sending
    folders = {"contents", "runs", "checks"}
    expected_files = folders | {"facts.db", "facts.db-journal", "lock", "children.log"}
    assert {path.name for path in server.state_dir.iterdir()} <= expected_files
    for path in (server.state_dir / "contents").iterdir():
        assert len(path.name) == 32
        assert path.is_file()


def test_invalid_requests(azure: Azure):
    def code(*args, **kwargs):
        response = azure.blob(*args, **kwargs)
        return response.status_code, response.headers["x-ms-error-code"]

    assert code("PUT", "w", content=b"x") == (400, "MissingRequiredHeader")
    assert code("PUT", "w", content=b"x", headers={"x-ms-blob-type": "PageBlob"}) == (
        400,
        "InvalidHeaderValue",
    )
    assert code("PUT", "w", content=b"x", headers={**BLOCK, "x-ms-version": "soon"}) == (
        400,
        "InvalidHeaderValue",
    )
    assert code("PUT", "w", headers={**BLOCK, "x-ms-copy-source": "http://169.254.169.254/"}) == (
        501,
        "NotImplemented",
    )
    assert code("PUT", "w", content=b"x", headers={**BLOCK, "x-ms-meta-a-b": "x"}) == (
        400,
        "InvalidMetadata",
    )
    assert code("POST", "w") == (405, "MethodNotAllowed")
    assert code("PUT", "w", "comp=lease") == (501, "NotImplemented")


def test_unknown_container(azure: Azure):
    url = f"{azure.url}/maaslocal/nobody/x?sig=a"
    response = httpx.get(url, trust_env=False)
    assert (response.status_code, response.headers["x-ms-error-code"]) == (404, "ContainerNotFound")


def test_create_and_delete_containers(azure: Azure):
    url = f"{azure.url}/maaslocal/mine"
    assert httpx.put(f"{url}?restype=container&sig=a", trust_env=False).status_code == 201
    assert httpx.put(f"{url}?restype=container&sig=a", trust_env=False).status_code == 409
    assert (
        httpx.put(f"{url}/b?sig=a", content=b"x", headers=BLOCK, trust_env=False).status_code == 201
    )
    assert httpx.get(f"{url}?restype=container&sig=a", trust_env=False).status_code == 200


def test_expired_sas(azure: Azure):
    base, _ = azure.container()
    late = f"{base}/x?sv=2024-11-04&sr=c&sp=r&se=2020-01-01T00:00:00Z&sig=abc"
    response = httpx.get(late, trust_env=False)
    assert (response.status_code, response.headers["x-ms-error-code"]) == (
        403,
        "AuthenticationFailed",
    )
    assert "abc" not in response.text
    assert httpx.get(f"{base}/x", trust_env=False).status_code == 401
    assert (
        httpx.get(f"{base}/x", headers={"Authorization": "Bearer t"}, trust_env=False).status_code
        == 404
    )
