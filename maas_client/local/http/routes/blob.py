"""The blob REST API (docs/azure-http.md sections 2.1 and 7): bytes in, bytes out, conditions kept.

Bodies are hashed and written as they arrive; nothing of a request's name reaches the disk.
"""

from __future__ import annotations

import base64
import hashlib
import re
from email.utils import format_datetime
from html import escape, unescape
from typing import Any

import anyio.to_thread
from starlette.responses import Response  # noqa: TID253 - only the server imports this

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes import artifact_blobs
from maas_client.local.http.routes.download import blob_response, log_response, modified_at
from maas_client.local.http.routes.run_history import LOG_CONTAINER, LOG_PATH
from maas_client.local.resources import artifacts
from maas_client.local.resources.blobs import BlobProperties, Conditions, check_md5, parse_etags
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.files import Draft
from maas_client.local.state.store import Record
from maas_client.wire import blob as ops
from maas_client.wire.op import Op, Plane

_CONTAINER = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_WORKSPACE = re.compile(r"azureml-blobstore-[0-9a-f-]{36}")
_LOG_PATH = re.compile(rf"ExperimentRun/dcid\.([0-9a-f]{{32}})/{re.escape(LOG_PATH)}")
_KEPT = ("content-type", "content-encoding", "content-language", "cache-control",
         "content-disposition", "content-md5")  # fmt: skip
_MAX_LIST_BYTES = 16 << 20

CONTAINER_PUT = Op("containers.create", "PUT", Plane.BLOB, "", type(None), ok=(201,),
                   query={"restype": "container"})  # fmt: skip
CONTAINER_GET = Op("containers.get", "GET", Plane.BLOB, "", type(None),
                   query={"restype": "container"})  # fmt: skip
CONTAINER_DELETE = Op("containers.delete", "DELETE", Plane.BLOB, "", type(None), ok=(202,),
                      query={"restype": "container"})  # fmt: skip
HEADERS_PUT = Op("blobs.headers", "PUT", Plane.BLOB, "/{blob:path}", type(None),
                 query={"comp": "properties"})  # fmt: skip
SDK_ONLY_OPERATIONS: tuple[Op[Any], ...] = (
    CONTAINER_PUT,
    CONTAINER_GET,
    CONTAINER_DELETE,
    HEADERS_PUT,
)
"""What Microsoft's own client sends and ours does not."""


def _where(call: RequestContext) -> tuple[str, str]:
    """Return container and blob of a request; the container must be there."""
    _check_version(call)
    container = call.path_params["container"]
    if not _exists(call, container):
        raise ApiError(404, "ContainerNotFound", "The specified container does not exist.")
    name = call.path_params.get("blob", "")
    if len(name) > 1024:
        raise ApiError(400, "OutOfRangeInput", "A blob's name has at most 1,024 characters.")
    return container, name


def _exists(call: RequestContext, container: str) -> bool:
    if container == LOG_CONTAINER or _WORKSPACE.fullmatch(container):
        return True
    if artifacts.parse_artifact_container(container):
        return True
    return call.services.store.read.get("container", "", container) is not None


def _check_version(call: RequestContext) -> None:
    said = call.request.headers.get("x-ms-version")
    if said is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", said):
        raise ApiError(
            400, "InvalidHeaderValue", "The value for x-ms-version is not in the correct format."
        )


def _conditions(call: RequestContext) -> Conditions:
    headers = call.request.headers
    return Conditions(
        parse_etags(headers.get("if-match")), parse_etags(headers.get("if-none-match"))
    )


def _settings(call: RequestContext, *, whole: bool = False) -> BlobProperties:
    """Return content headers and metadata; of a whole Put Blob its own Content-Type counts too."""
    headers = call.request.headers
    kept = {n: headers[f"x-ms-blob-{n}"] for n in _KEPT if f"x-ms-blob-{n}" in headers}
    if whole:
        kept = {n: headers[n] for n in _KEPT if n in headers and n != "content-md5"} | kept
    return BlobProperties(kept, _metadata(call))


def _metadata(call: RequestContext) -> dict[str, str]:
    lead = "x-ms-meta-"
    found = {k[len(lead) :]: v for k, v in call.request.headers.items() if k.startswith(lead)}
    if any(not re.fullmatch(r"[A-Za-z_]\w*", k) for k in found):
        raise ApiError(400, "InvalidMetadata", "A metadata name must be a C# identifier.")
    return found


async def _receive(call: RequestContext, draft: Draft) -> None:
    if "x-ms-copy-source" in call.request.headers:
        raise ApiError(501, "NotImplemented", "The local server copies nothing from elsewhere.")
    if "x-ms-content-crc64" in call.request.headers:
        raise ApiError(
            400, "UnsupportedHeader", "x-ms-content-crc64 is not checked here; send Content-MD5."
        )
    async for chunk in call.request.stream():
        if chunk:
            draft.write(chunk)
    check_md5(call.request.headers.get("content-md5"), draft)


def _written(fact: Record, md5: str | None = None, status: int = 201) -> Response:
    headers = {
        "ETag": fact.body["etag"],
        "Last-Modified": format_datetime(modified_at(fact), usegmt=True),
        "x-ms-request-server-encrypted": "true",
    }
    if md5:
        headers["Content-MD5"] = md5
    return Response(None, status, headers)


async def put(call: RequestContext) -> Response:
    """Put Blob."""
    container, name = _where(call)
    _writable(container)
    kind = call.request.headers.get("x-ms-blob-type")
    if kind is None:
        raise ApiError(400, "MissingRequiredHeader", "x-ms-blob-type is required.")
    if kind != "BlockBlob":
        raise ApiError(400, "InvalidHeaderValue", "Only block blobs are kept here.")
    with call.services.blobs.draft() as draft:
        await _receive(call, draft)
        settings, when = _settings(call, whole=True), _conditions(call)
        fact = await anyio.to_thread.run_sync(
            call.services.blobs.put, container, name, draft, settings, when
        )
    return _written(fact, base64.b64encode(draft.md5.digest()).decode())


async def put_block(call: RequestContext) -> Response:
    """Put Block."""
    container, name = _where(call)
    _writable(container)
    with call.services.blobs.draft() as draft:
        await _receive(call, draft)
        block = call.query_params.get("blockid", "")
        await anyio.to_thread.run_sync(call.services.blobs.put_block, container, name, block, draft)
    md5 = base64.b64encode(draft.md5.digest()).decode()
    return Response(None, 201, {"Content-MD5": md5, "x-ms-request-server-encrypted": "true"})


async def commit(call: RequestContext) -> Response:
    """Put Block List."""
    container, name = _where(call)
    _writable(container)
    raw = bytearray()
    async for chunk in call.request.stream():
        raw += chunk
        if len(raw) > _MAX_LIST_BYTES:
            raise ApiError(413, "RequestBodyTooLarge", "The block list is too long.")
    _check_list_md5(call, bytes(raw))
    listed = _read_list(bytes(raw))
    settings, when = _settings(call), _conditions(call)
    fact = await anyio.to_thread.run_sync(
        call.services.blobs.commit_blocks, container, name, listed, settings, when
    )
    return _written(fact)


def _check_list_md5(call: RequestContext, raw: bytes) -> None:
    said = call.request.headers.get("content-md5")
    real = base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()
    if said is not None and said != real:
        raise ApiError(400, "Md5Mismatch", "The MD5 value does not match the block list.")


def _read_list(raw: bytes) -> list[tuple[str, str]]:
    """Read a block list. No XML parser: nothing in a request is ever expanded or fetched."""
    text = raw.decode("utf-8", "replace").lstrip("\ufeff").strip()
    body = re.fullmatch(
        r"(?:<\?xml[^>]*\?>)?\s*<BlockList\s*(?:/>|>(?P<rows>.*)</BlockList>)", text, re.S
    )
    row = r"<(Latest|Committed|Uncommitted)>([^<]*)</\1>"
    rows = (body["rows"] or "") if body else ""
    if body is None or re.sub(row, "", rows).strip():
        raise ApiError(400, "InvalidXmlDocument", "The block list is not valid XML of its kind.")
    return [(kind, unescape(block.strip())) for kind, block in re.findall(row, rows)]


def list_blocks(call: RequestContext) -> Response:
    """Get Block List."""
    container, name = _where(call)
    kind = call.query_params.get("blocklisttype", "committed").lower()
    blob = call.services.store.read.get("blob", container, name)
    waiting = call.services.blobs.uncommitted_blocks(container, name)
    if blob is None and not waiting:
        raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
    held = blob.body["blocks"] if blob else []
    parts = []
    if kind in ("committed", "all"):
        parts.append(_block_rows("CommittedBlocks", held))
    if kind in ("uncommitted", "all"):
        parts.append(_block_rows("UncommittedBlocks", [[b.key, b.body["size"]] for b in waiting]))
    headers = {"x-ms-blob-content-length": str(blob.body["size"] if blob else 0)}
    if blob:
        headers["ETag"] = blob.body["etag"]
    return _xml(f"<BlockList>{''.join(parts)}</BlockList>", headers)


def _block_rows(name: str, rows: list[list[Any]]) -> str:
    blocks = "".join(
        f"<Block><Name>{escape(block)}</Name><Size>{size}</Size></Block>" for block, size in rows
    )
    return f"<{name}>{blocks}</{name}>"


def _xml(text: str, headers: dict[str, str]) -> Response:
    raw = f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode()
    return Response(raw, 200, headers, media_type="application/xml")


def set_metadata(call: RequestContext) -> Response:
    """Set Blob Metadata."""
    container, name = _where(call)
    _writable(container)
    found = call.services.blobs.set_metadata(container, name, _metadata(call), _conditions(call))
    return _written(found, status=200)


def set_headers(call: RequestContext) -> Response:
    """Set Blob Properties."""
    container, name = _where(call)
    _writable(container)
    headers = _settings(call).headers
    return _written(
        call.services.blobs.set_headers(container, name, headers, _conditions(call)), status=200
    )


def _writable(container: str) -> None:
    if container == LOG_CONTAINER or artifacts.parse_artifact_container(container):
        raise ApiError(
            403, "AuthorizationPermissionMismatch", "Logs and artifacts are written by jobs only."
        )


def get(call: RequestContext) -> Response:
    """Get Blob and Get Blob Properties (HEAD)."""
    container, name = _where(call)
    if container == LOG_CONTAINER:
        return _log(call, name)
    if artifacts.parse_artifact_container(container):
        fact, file = artifact_blobs.find_blob(call, container, name)
        _conditions(call).check_read(fact)
        return blob_response(call.request, fact, file)
    fact = call.services.blobs.get(container, name)
    _conditions(call).check_read(fact)
    return blob_response(call.request, fact, call.services.files.content_path(fact.body["content"]))


def _log(call: RequestContext, name: str) -> Response:
    match = _LOG_PATH.fullmatch(name)
    log = call.services.files.log_path(match[1]) if match else None
    if log is None or not log.exists():
        raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
    return log_response(call.request, log)


def delete(call: RequestContext) -> Response:
    """Delete Blob."""
    container, name = _where(call)
    _writable(container)
    call.services.blobs.delete(container, name, _conditions(call))
    return Response(None, 202, {"x-ms-delete-type-permanent": "true"})


def listing(call: RequestContext) -> Response:
    """List Blobs, a page at a time, by name."""
    container, _ = _where(call)
    prefix, marker = call.query_params.get("prefix", ""), call.query_params.get("marker", "")
    size = call.query_params.get("maxresults", "5000")
    limit = min(5000, int(size)) if re.fullmatch(r"[1-9]\d{0,6}", size) else 5000
    if artifacts.parse_artifact_container(container):
        named = artifact_blobs.list_blobs(call, container, prefix)
    else:
        named = call.services.blobs.list_blobs(container, prefix)
    found = [b for b in named if b.key >= marker]
    rows = "".join(_blob_row(b) for b in found[:limit])
    following = escape(found[limit].key) if len(found) > limit else ""
    head = f'<EnumerationResults ContainerName="{container}"><Prefix>{escape(prefix)}</Prefix>'
    # azure-storage-blob asks for the next page with the size that this one says it had.
    asked = f"<MaxResults>{limit}</MaxResults>" if "maxresults" in call.query_params else ""
    said = f"<Marker>{escape(marker)}</Marker>{asked}"
    return _xml(
        f"{head}{said}<Blobs>{rows}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>",
        {},
    )


def _blob_row(blob: Record) -> str:
    modified = format_datetime(modified_at(blob), usegmt=True)
    kind = escape(blob.body["headers"]["content-type"])
    metadata = "".join(f"<{k}>{escape(v)}</{k}>" for k, v in blob.body["metadata"].items())
    return (
        f"<Blob><Name>{escape(blob.key)}</Name><Properties><Last-Modified>{modified}</Last-Modified>"
        f"<Etag>{escape(blob.body['etag'])}</Etag><Content-Length>{blob.body['size']}</Content-Length>"
        f"<Content-Type>{kind}</Content-Type><BlobType>BlockBlob</BlobType></Properties>"
        f"<Metadata>{metadata}</Metadata></Blob>"
    )


# -- containers -----------------------------------------------------------------------------------


def create_container(call: RequestContext) -> Response:
    """Create Container."""
    name = call.path_params["container"]
    if not 3 <= len(name) <= 63 or not _CONTAINER.fullmatch(name):
        raise ApiError(400, "InvalidResourceName", "The container's name is not valid.")
    with call.services.store.write() as facts:
        if _exists(call, name) or facts.get("container", "", name):
            raise ApiError(409, "ContainerAlreadyExists", "The specified container already exists.")
        facts.put("container", "", name, {})
    return Response(None, 201)


def get_container(call: RequestContext) -> Response:
    """Get Container Properties."""
    _where(call)
    return Response(None, 200, {"x-ms-lease-status": "unlocked", "x-ms-lease-state": "available"})


def delete_container(call: RequestContext) -> Response:
    """Delete Container: an empty one, and none of a workspace."""
    container, _ = _where(call)
    if call.services.blobs.list_blobs(container, ""):
        raise ApiError(409, "ContainerBeingDeleted", "Delete the blobs first.")
    with call.services.store.write() as facts:
        facts.delete("container", "", container)
    return Response(None, 202)


HANDLERS: dict[Op[Any], Handler] = {
    ops.BLOB_PUT: put,
    ops.BLOCK_PUT: put_block,
    ops.BLOCK_LIST_PUT: commit,
    ops.BLOCK_LIST_GET: list_blocks,
    ops.METADATA_PUT: set_metadata,
    ops.BLOB_HEAD: get,
    ops.BLOB_GET: get,
    ops.BLOB_DELETE: delete,
    ops.BLOB_LIST: listing,
    CONTAINER_PUT: create_container,
    CONTAINER_GET: get_container,
    CONTAINER_DELETE: delete_container,
    HEADERS_PUT: set_headers,
}
