"""The blob REST API over HTTP: what the official SDK sends, and what it expects in return."""

from __future__ import annotations

import base64
import hashlib
import html
import os
from urllib.parse import parse_qsl, quote

import httpx
import pytest

from maas_client.wire import blob
from maas_client.wire.operation import Operation
from tests.contract.server.conftest import PLAIN_HTTP, Azure

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
    first_etag = azure.blob("PUT", "cond", content=b"1", headers=BLOCK).headers["etag"]
    conflict = azure.blob("PUT", "cond", content=b"2", headers={**BLOCK, "If-None-Match": "*"})
    assert (conflict.status_code, conflict.headers["x-ms-error-code"]) == (409, "BlobAlreadyExists")
    assert b"<Code>BlobAlreadyExists</Code>" in conflict.content
    assert azure.blob("GET", "cond", headers={"If-None-Match": first_etag}).status_code == 304
    second_etag = azure.blob(
        "PUT", "cond", content=b"2", headers={**BLOCK, "If-Match": first_etag}
    ).headers["etag"]
    outdated = azure.blob("PUT", "cond", content=b"3", headers={**BLOCK, "If-Match": first_etag})
    assert (outdated.status_code, outdated.headers["x-ms-error-code"]) == (412, "ConditionNotMet")
    assert azure.blob("GET", "cond", headers={"If-Match": first_etag}).status_code == 412
    assert azure.blob("GET", "cond", headers={"If-Match": second_etag}).content == b"2"
    assert azure.blob("DELETE", "cond", headers={"If-Match": first_etag}).status_code == 412
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
        text = httpx.get(url, **PLAIN_HTTP).text
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
    expected_files = folders | {"facts.db", "facts.db-journal", "lock", "children.log", "reserve"}
    assert {path.name for path in server.state_dir.iterdir()} <= expected_files
    for path in (server.state_dir / "contents").iterdir():
        assert len(path.name) == 32
        assert path.is_file()


def test_invalid_requests(azure: Azure):
    def code(*args, **kwargs):
        response = azure.blob(*args, **kwargs)
        return response.status_code, response.headers["x-ms-error-code"]

    assert code("PUT", "w", content=b"x") == (400, "MissingRequiredHeader")
    assert code("PUT", "w", content=b"x", headers={"x-ms-blob-type": "Blob"}) == (
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
    assert code("PATCH", "w") == (405, "MethodNotAllowed")
    assert code("POST", "w") == (400, "InvalidQueryParameterValue")
    assert code("PUT", "w", "comp=lease") == (501, "NotImplemented")


def test_unknown_container(azure: Azure):
    response = azure.http.get("/maaslocal/nobody/x")
    assert (response.status_code, response.headers["x-ms-error-code"]) == (404, "ContainerNotFound")


def test_create_and_delete_containers(azure: Azure):
    url = "/maaslocal/mine"
    assert azure.http.put(f"{url}?restype=container").status_code == 201
    assert azure.http.put(f"{url}?restype=container").status_code == 409
    assert azure.http.put(f"{url}/b", content=b"x", headers=BLOCK).status_code == 201
    assert azure.http.get(f"{url}?restype=container").status_code == 200
    assert azure.http.head(f"{url}?restype=container").headers["etag"].startswith('"')
    assert "<Name>mine</Name>" in azure.http.get("/maaslocal?comp=list").text
    assert azure.http.delete(f"{url}?restype=container").status_code == 202
    assert azure.http.get(f"{url}/b").headers["x-ms-error-code"] == "ContainerNotFound"
    assert azure.http.put(f"{url}?restype=container").status_code == 201
    assert azure.http.get(f"{url}/b").headers["x-ms-error-code"] == "BlobNotFound"
    assert "<Name>mine</Name>" in azure.http.get("/maaslocal/?comp=list&prefix=mi").text
    assert "<Name>mine</Name>" not in azure.http.get("/maaslocal/?comp=list&prefix=x").text


def test_container_metadata(azure: Azure):
    url = "/maaslocal/labelled?restype=container"
    assert azure.http.put(url, headers={"x-ms-meta-a": "1"}).status_code == 201
    first = azure.http.get(f"{url}&comp=metadata")
    assert first.headers["x-ms-meta-a"] == "1"
    assert azure.http.put(f"{url}&comp=metadata", headers={"x-ms-meta-b": "2"}).status_code == 200
    then = azure.http.head(url)
    assert (then.headers.get("x-ms-meta-a"), then.headers["x-ms-meta-b"]) == (None, "2")
    assert then.headers["etag"] != first.headers["etag"]
    late = {"If-Unmodified-Since": "Sun, 29 Nov 2020 00:00:00 GMT"}
    assert azure.http.delete(url, headers=late).status_code == 412
    for name in ("azureml", azure.container()[0].rsplit("/", 1)[1]):
        assert azure.http.delete(f"/maaslocal/{name}?restype=container").status_code == 501


def test_metadata_names_keep_their_case(azure: Azure):
    container = "/maaslocal/cases"
    url, query = f"{container}/blob", "?restype=container"
    names = ["x-ms-meta-Owner", "X-MS-META-camelCase", "x-ms-meta-UPPER"]
    azure.http.put(container + query, headers=dict.fromkeys(names, "v"))
    azure.http.put(url, content=b"x", headers={**BLOCK, **dict.fromkeys(names, "v")})

    def received(response: httpx.Response) -> list[str]:
        assert response.status_code in (200, 206)
        raw = [name.decode() for name, _ in response.headers.raw]
        return [name[10:] for name in raw if name.lower().startswith("x-ms-meta-")]

    expected = ["Owner", "camelCase", "UPPER"]
    for path in (
        url,
        f"{url}?comp=metadata",
        container + query,
        f"{container}{query}&comp=metadata",
    ):
        assert received(azure.http.get(path)) == expected, path
        assert received(azure.http.head(path)) == expected, path
    assert received(azure.http.get(url, headers={"x-ms-range": "bytes=0-0"})) == expected
    listed = azure.http.get(f"{container}{query}&comp=list&include=metadata").text
    assert "<Metadata><Owner>v</Owner><camelCase>v</camelCase><UPPER>v</UPPER></Metadata>" in listed
    azure.http.put(f"{url}?comp=metadata", headers={"x-ms-meta-oWner": "w"})
    assert received(azure.http.get(url)) == ["oWner"]
    for headers, code in (
        ([("x-ms-meta-a", "1"), ("x-ms-meta-A", "1")], "InvalidMetadata"),
        ([("x-ms-meta-a", "1"), ("x-ms-meta-a", "2")], "InvalidMetadata"),
        ([("x-ms-meta-a-b", "1")], "InvalidMetadata"),
        ([("x-ms-meta-a", "v" * 9000)], "MetadataTooLarge"),
    ):
        refused = azure.http.put(f"{url}?comp=metadata", headers=headers)
        assert (refused.status_code, f"<Code>{code}</Code>" in refused.text) == (400, True), headers


def test_list_with_delimiter(azure: Azure):
    url = "/maaslocal/walk"
    azure.http.put(f"{url}?restype=container")
    for name in ("a/1", "a/2", "a/b/3", "b", "c/1"):
        azure.http.put(f"{url}/{name}", content=b"x", headers={**BLOCK, "x-ms-meta-k": "v"})

    def names(query: str) -> list[list[str]]:
        pages, marker = [], ""
        while True:
            text = azure.http.get(f"{url}?restype=container&comp=list&marker={marker}&{query}").text
            pages.append([part.split("</Name>")[0] for part in text.split("<Name>")[1:]])
            marker = text.split("<NextMarker>")[1].split("</NextMarker>")[0]
            if not marker:
                return pages

    assert names("delimiter=/") == [["a/", "b", "c/"]]
    assert names("delimiter=/&maxresults=1") == [["a/"], ["b"], ["c/"]]
    assert names("delimiter=/&prefix=a/") == [["a/1", "a/2", "a/b/"]]
    assert names("prefix=a/") == [["a/1", "a/2", "a/b/3"]]
    list_url = f"{url}?restype=container&comp=list"
    assert "<k>v</k>" in azure.http.get(f"{list_url}&include=metadata").text
    assert "<k>v</k>" not in azure.http.get(list_url).text
    assert azure.http.get(f"{list_url}&include=metadata,uncommittedblobs").status_code == 501
    assert azure.http.get(f"{list_url}&maxresults=0").status_code == 400


def test_snapshots_never_touch_the_blob(azure: Azure):
    time = "2026-11-29T00:00:00.0000000Z"
    azure.blob("PUT", "live", content=b"live", headers=BLOCK)
    for method, query in (
        ("DELETE", f"snapshot={time}"),
        ("GET", f"snapshot={time}"),
        ("HEAD", f"snapshot={time}"),
        ("GET", f"versionid={time}"),
        ("DELETE", f"versionid={time}"),
        ("DELETE", "deletetype=permanent"),
        ("PUT", f"comp=metadata&snapshot={time}"),
    ):
        assert azure.blob(method, "live", query).status_code == 501, (method, query)
    only = azure.blob("DELETE", "live", headers={"x-ms-delete-snapshots": "only"})
    assert (only.status_code, azure.blob("GET", "live").content) == (501, b"live")
    include = azure.blob("DELETE", "live", headers={"x-ms-delete-snapshots": "include"})
    assert (include.status_code, azure.blob("GET", "live").status_code) == (202, 404)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_date_conditions_of_reads(azure: Azure, method: str):
    put = azure.blob("PUT", "dated", content=b"x", headers=BLOCK)
    past, modified = "Sun, 29 Nov 2020 00:00:00 GMT", put.headers["last-modified"]

    def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return azure.blob(method, "dated", headers=named).status_code

    assert status(If_Modified_Since=past) == 200
    assert status(If_Modified_Since=modified) == 304
    assert status(If_Unmodified_Since=past) == 412
    assert status(If_Unmodified_Since=modified) == 200
    assert status(If_Modified_Since="soon") == 400
    assert status(If_None_Match='"x"', If_Modified_Since=modified) == 200
    assert status(If_Match=put.headers["etag"], If_Unmodified_Since=past) == 200


@pytest.mark.parametrize(
    ("method", "query"),
    [("PUT", ""), ("PUT", "comp=metadata"), ("PUT", "comp=properties"), ("PUT", "comp=blocklist"),
     ("DELETE", "")],
)  # fmt: skip
def test_date_conditions_of_writes(azure: Azure, method: str, query: str):
    put = azure.blob("PUT", "dated", content=b"x", headers=BLOCK)
    past, modified = "Sun, 29 Nov 2020 00:00:00 GMT", put.headers["last-modified"]
    body = b"<BlockList></BlockList>" if "blocklist" in query else b""
    headers = BLOCK if (method, query) == ("PUT", "") else {}

    def status(condition: str, value: str) -> int:
        return azure.blob(
            method, "dated", query, content=body, headers={**headers, condition: value}
        ).status_code

    assert status("If-Unmodified-Since", past) == 412
    assert status("If-Modified-Since", modified) == 412
    assert azure.blob("GET", "dated").content == b"x"
    assert status("If-Modified-Since", past) < 300


@pytest.mark.parametrize(
    ("method", "query", "name"),
    [(op.method, "&".join(f"{k}={v}" for k, v in op.query.items()), op.name)
     for op in blob.ABSENT_BLOB_OPERATIONS],
)  # fmt: skip
def test_absent_blob_operations(azure: Azure, method: str, query: str, name: str):
    azure.blob("PUT", "live", content=b"live", headers=BLOCK)
    response = azure.blob(method, "live", query)
    assert (response.status_code, response.headers["x-ms-error-code"]) == (501, "NotImplemented")
    assert method == "HEAD" or name in response.text
    assert azure.blob("GET", "live").content == b"live"


@pytest.mark.parametrize("op", blob.ABSENT_CONTAINER_OPERATIONS, ids=lambda op: op.name)
def test_absent_container_operations(azure: Azure, op: Operation[None]):
    response = azure.http.request(op.method, "/maaslocal/not-created", params=op.query)
    assert response.status_code == 501
    assert op.method == "HEAD" or op.name in response.text
    assert azure.http.get("/maaslocal/not-created?restype=container").status_code == 404


@pytest.mark.parametrize(
    ("headers", "name"),
    [({"x-ms-blob-type": "PageBlob"}, "PageBlob"), ({"x-ms-blob-type": "AppendBlob"}, "AppendBlob"),
     ({"x-ms-copy-source": "http://169.254.169.254/"}, "Copy Blob"),
     ({**BLOCK, "x-ms-copy-source": "http://169.254.169.254/"}, "Put Blob From URL")],
)  # fmt: skip
def test_other_ways_to_put_a_blob(azure: Azure, headers: dict[str, str], name: str):
    response = azure.blob("PUT", "w", content=b"", headers=headers)
    assert (response.status_code, name in response.text) == (501, True)


def test_ranges_in_other_forms(azure: Azure):
    azure.blob("PUT", "ranged", content=b"0123456789", headers=BLOCK)
    for value in ("bytes=-2", "bytes=0-1,4-5", "pages=1-2"):
        assert azure.blob("GET", "ranged", headers={"Range": value}).status_code == 501


# -- shared access signatures ----------------------------------------------------------------------


def test_sas_of_the_server_cannot_be_changed(azure: Azure):
    azure.blob("PUT", "s", content=b"x", headers=BLOCK)
    base, sas = azure.container()
    fields = dict(parse_qsl(sas))
    assert httpx.get(f"{base}/s", params=fields, **PLAIN_HTTP).status_code == 200
    for changed in (
        {"sp": "r"}, {"se": "2099-01-01T00:00:00Z"}, {"sr": "b"}, {"sv": "2020-12-06"},
        {"st": "2020-01-01T00:00:00Z"}, {"sig": "A" * 43 + "="}, {"sig": "é"}, {"sig": "\x00"},
        {"rsct": "text/html"},
    ):  # fmt: skip
        response = httpx.get(f"{base}/s", params=fields | changed, **PLAIN_HTTP)
        assert response.status_code == 403, changed
        assert response.headers["x-ms-error-code"] == "AuthenticationFailed"


ACCOUNT_KEY_SAS = {
    "sv": "2024-11-04", "sr": "c", "sp": "racwdl", "se": "2099-01-01T00:00:00Z", "sig": "A" * 43 + "=",
}  # fmt: skip
"""A SAS signed with an account key, which the server cannot know."""


@pytest.mark.parametrize(
    ("changed", "status"),
    [({}, 200), ({"sp": "wd"}, 403), ({"sp": ""}, 403), ({"se": ""}, 403), ({"se": "soon"}, 403),
     ({"se": "2020-01-01T00:00:00Z"}, 403), ({"st": "2098-01-01"}, 403), ({"sv": ""}, 403),
     ({"sr": ""}, 403), ({"sr": "x"}, 403), ({"sr": "b"}, 200), ({"sr": "bs"}, 501),
     ({"si": "policy"}, 403), ({"spr": "https"}, 403), ({"spr": "https,http"}, 200),
     ({"sip": "10.0.0.1"}, 403), ({"sip": "127.0.0.1"}, 200), ({"sip": "127.0.0.0-127.0.0.9"}, 200),
     ({"sip": "x"}, 403), ({"sig": "abc"}, 403), ({"sig": "日本"}, 403), ({"ses": "scope"}, 501),
     ({"ss": "b", "srt": "o"}, 200), ({"ss": "b", "srt": "c"}, 403), ({"ss": "q", "srt": "o"}, 403),
     ({"ss": "b"}, 403)],
)  # fmt: skip
def test_fields_of_a_sas(azure: Azure, changed: dict[str, str], status: int):
    azure.blob("PUT", "s", content=b"x", headers=BLOCK)
    base, _ = azure.container()
    fields = {k: v for k, v in (ACCOUNT_KEY_SAS | changed).items() if v}
    assert httpx.get(f"{base}/s", params=fields, **PLAIN_HTTP).status_code == status


@pytest.mark.parametrize(
    ("letter", "allowed"),
    [("r", {"GET s"}), ("l", {"GET ?comp=list"}), ("d", {"DELETE s"}), ("c", {"PUT new"}),
     ("w", {"PUT new", "PUT s", "PUT s?comp=metadata", "PUT s?comp=block", "PUT s?comp=blocklist"})],
)  # fmt: skip
def test_permissions_of_a_sas(azure: Azure, letter: str, allowed: set[str]):
    base, _ = azure.container()
    requests: list[tuple[str, str, dict[str, str]]] = [
        ("GET", "s", {}), ("GET", "", {"comp": "list", "restype": "container"}), ("PUT", "new", {}),
        ("PUT", "s", {}), ("PUT", "s", {"comp": "metadata"}),
        ("PUT", "s", {"comp": "block", "blockid": "AAAA"}), ("PUT", "s", {"comp": "blocklist"}),
        ("DELETE", "s", {}),
    ]  # fmt: skip
    permitted = set()
    for method, name, query in requests:
        azure.blob("DELETE", "new")
        azure.blob("PUT", "s", content=b"x", headers=BLOCK)
        headers = BLOCK if method == "PUT" and not query else {}
        content = b"<BlockList></BlockList>" if query.get("comp") == "blocklist" else None
        response = httpx.request(
            method, f"{base}/{name}".rstrip("/"), params=ACCOUNT_KEY_SAS | {"sp": letter} | query,
            headers=headers, content=content, **PLAIN_HTTP,
        )  # fmt: skip
        if response.status_code < 300:
            permitted.add(f"{method} {name}" + (f"?comp={query['comp']}" if query else ""))
        else:
            assert response.status_code == 403, response.text
    assert permitted == allowed


def test_container_operations_need_an_account_sas(azure: Azure):
    url = f"{azure.url}/maaslocal/with-sas"
    account = {k: v for k, v in ACCOUNT_KEY_SAS.items() if k != "sr"} | {"ss": "b", "srt": "sco"}

    def status(method: str, fields: dict[str, str]) -> int:
        params = {**fields, "restype": "container"}
        return httpx.request(method, url, params=params, **PLAIN_HTTP).status_code

    assert status("PUT", ACCOUNT_KEY_SAS) == 403
    assert status("PUT", account) == 201
    assert status("DELETE", ACCOUNT_KEY_SAS) == 403
    assert status("DELETE", account | {"sp": "rl"}) == 403
    assert status("DELETE", account) == 202
    listed = httpx.get(f"{azure.url}/maaslocal", params=account | {"comp": "list"}, **PLAIN_HTTP)
    assert listed.status_code == 200


def test_expired_sas(azure: Azure):
    base, _ = azure.container()
    late = f"{base}/x?sv=2024-11-04&sr=c&sp=r&se=2020-01-01T00:00:00Z&sig=abc"
    response = httpx.get(late, **PLAIN_HTTP)
    assert (response.status_code, response.headers["x-ms-error-code"]) == (
        403,
        "AuthenticationFailed",
    )
    assert "abc" not in response.text
    assert httpx.get(f"{base}/x", **PLAIN_HTTP).status_code == 401
    assert (
        httpx.get(f"{base}/x", headers={"Authorization": "Bearer t"}, **PLAIN_HTTP).status_code
        == 404
    )
