"""The blob REST API (docs/azure-http.md sections 2.1 and 7), with conditions and block lists.

Bodies are hashed and written as they arrive; names from a request are never used as paths on disk.
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
from maas_client.local.http.parameters import accepts
from maas_client.local.http.routes import artifacts as artifact_routes
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
_STORED_HEADERS = ("content-type", "content-encoding", "content-language", "cache-control",
         "content-disposition", "content-md5")  # fmt: skip
_MAX_LIST_BYTES = 16 << 20

_ETAGS = ("if-match", "if-none-match")
_CONTENT = ("content-encoding", "x-ms-blob-content-type", "x-ms-blob-content-encoding",
            "x-ms-blob-content-language", "x-ms-blob-cache-control",
            "x-ms-blob-content-disposition", "x-ms-blob-content-md5")  # fmt: skip

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
"""Operations that Microsoft's SDK uses and this library's client does not."""


def _container_and_blob(context: RequestContext) -> tuple[str, str]:
    """Return container and blob of a request. Raises ``ApiError`` 404 for an unknown container."""
    _check_version(context)
    container = context.path_params["container"]
    if not _container_exists(context, container):
        raise ApiError(404, "ContainerNotFound", "The specified container does not exist.")
    name = context.path_params.get("blob", "")
    if len(name) > 1024:
        raise ApiError(
            400, "OutOfRangeInput", "The name of a blob can have at most 1,024 characters."
        )
    return container, name


def _container_exists(context: RequestContext, container: str) -> bool:
    if container == LOG_CONTAINER or _WORKSPACE.fullmatch(container):
        return True
    if artifacts.parse_artifact_container(container):
        return True
    return context.services.store.read.get("container", "", container) is not None


def _check_version(context: RequestContext) -> None:
    version = context.request.headers.get("x-ms-version")
    if version is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", version):
        raise ApiError(
            400, "InvalidHeaderValue", "The value for x-ms-version is not in the correct format."
        )


def _conditions(context: RequestContext) -> Conditions:
    headers = context.request.headers
    return Conditions(
        parse_etags(headers.get("if-match")), parse_etags(headers.get("if-none-match"))
    )


def _properties(context: RequestContext, *, include_plain_headers: bool = False) -> BlobProperties:
    """Return content headers and metadata; for Put Blob, plain content headers count too."""
    headers = context.request.headers
    stored = {
        name: headers[f"x-ms-blob-{name}"]
        for name in _STORED_HEADERS
        if f"x-ms-blob-{name}" in headers
    }
    if include_plain_headers:
        stored = {
            name: headers[name]
            for name in _STORED_HEADERS
            if name in headers and name != "content-md5"
        } | stored
    return BlobProperties(stored, _metadata(context))


def _metadata(context: RequestContext) -> dict[str, str]:
    prefix = "x-ms-meta-"
    metadata = {
        k[len(prefix) :]: v for k, v in context.request.headers.items() if k.startswith(prefix)
    }
    if any(not re.fullmatch(r"[A-Za-z_]\w*", k) for k in metadata):
        raise ApiError(400, "InvalidMetadata", "A metadata name must be a C# identifier.")
    return metadata


async def _receive_body(context: RequestContext, draft: Draft) -> None:
    if "x-ms-copy-source" in context.request.headers:
        raise ApiError(
            501, "NotImplemented", "The local server does not copy from other URLs. Send the bytes."
        )
    if "x-ms-content-crc64" in context.request.headers:
        raise ApiError(
            400,
            "UnsupportedHeader",
            "x-ms-content-crc64 is not supported by this server. Send Content-MD5.",
        )
    async for chunk in context.request.stream():
        if chunk:
            draft.write(chunk)
    check_md5(context.request.headers.get("content-md5"), draft)


def _write_response(record: Record, md5: str | None = None, status: int = 201) -> Response:
    headers = {
        "ETag": record.body["etag"],
        "Last-Modified": format_datetime(modified_at(record), usegmt=True),
        "x-ms-request-server-encrypted": "true",
    }
    if md5:
        headers["Content-MD5"] = md5
    return Response(None, status, headers)


@accepts(headers=("x-ms-blob-type", "x-ms-meta-", *_ETAGS, *_CONTENT))
async def put_blob(context: RequestContext) -> Response:
    """Put Blob."""
    container, name = _container_and_blob(context)
    _check_writable(container)
    kind = context.request.headers.get("x-ms-blob-type")
    if kind is None:
        raise ApiError(400, "MissingRequiredHeader", "x-ms-blob-type is required.")
    if kind != "BlockBlob":
        raise ApiError(400, "InvalidHeaderValue", "This server supports block blobs only.")
    with context.services.blobs.draft() as draft:
        await _receive_body(context, draft)
        properties, conditions = (
            _properties(context, include_plain_headers=True),
            _conditions(context),
        )
        record = await anyio.to_thread.run_sync(
            context.services.blobs.put, container, name, draft, properties, conditions
        )
    return _write_response(record, base64.b64encode(draft.md5.digest()).decode())


@accepts(query=("blockid",))
async def put_block(context: RequestContext) -> Response:
    """Put Block."""
    container, name = _container_and_blob(context)
    _check_writable(container)
    with context.services.blobs.draft() as draft:
        await _receive_body(context, draft)
        block = context.query_params.get("blockid", "")
        await anyio.to_thread.run_sync(
            context.services.blobs.put_block, container, name, block, draft
        )
    md5 = base64.b64encode(draft.md5.digest()).decode()
    return Response(None, 201, {"Content-MD5": md5, "x-ms-request-server-encrypted": "true"})


@accepts(headers=("x-ms-meta-", *_ETAGS, *_CONTENT))
async def put_block_list(context: RequestContext) -> Response:
    """Put Block List."""
    container, name = _container_and_blob(context)
    _check_writable(container)
    raw = bytearray()
    async for chunk in context.request.stream():
        raw += chunk
        if len(raw) > _MAX_LIST_BYTES:
            raise ApiError(
                413,
                "RequestBodyTooLarge",
                f"The block list is larger than {_MAX_LIST_BYTES} bytes.",
            )
    _check_list_md5(context, bytes(raw))
    blocks = _parse_block_list(bytes(raw))
    properties, conditions = _properties(context), _conditions(context)
    record = await anyio.to_thread.run_sync(
        context.services.blobs.commit_blocks, container, name, blocks, properties, conditions
    )
    return _write_response(record)


def _check_list_md5(context: RequestContext, raw: bytes) -> None:
    expected = context.request.headers.get("content-md5")
    actual = base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()
    if expected is not None and expected != actual:
        raise ApiError(400, "Md5Mismatch", "The MD5 value does not match the block list.")


def _parse_block_list(raw: bytes) -> list[tuple[str, str]]:
    """Parse a block list without an XML parser, so that nothing in it is ever expanded or fetched."""
    text = raw.decode("utf-8", "replace").lstrip("\ufeff").strip()
    body = re.fullmatch(
        r"(?:<\?xml[^>]*\?>)?\s*<BlockList\s*(?:/>|>(?P<rows>.*)</BlockList>)", text, re.S
    )
    row = r"<(Latest|Committed|Uncommitted)>([^<]*)</\1>"
    rows = (body["rows"] or "") if body else ""
    if body is None or re.sub(row, "", rows).strip():
        raise ApiError(400, "InvalidXmlDocument", "The XML of the block list is not valid.")
    return [(kind, unescape(block.strip())) for kind, block in re.findall(row, rows)]


@accepts(query=("blocklisttype",))
def get_block_list(context: RequestContext) -> Response:
    """Get Block List."""
    container, name = _container_and_blob(context)
    kind = context.query_params.get("blocklisttype", "committed").lower()
    blob = context.services.store.read.get("blob", container, name)
    uncommitted = context.services.blobs.uncommitted_blocks(container, name)
    if blob is None and not uncommitted:
        raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
    committed = blob.body["blocks"] if blob else []
    parts = []
    if kind in ("committed", "all"):
        parts.append(_blocks_xml("CommittedBlocks", committed))
    if kind in ("uncommitted", "all"):
        parts.append(
            _blocks_xml("UncommittedBlocks", [[b.key, b.body["size"]] for b in uncommitted])
        )
    headers = {"x-ms-blob-content-length": str(blob.body["size"] if blob else 0)}
    if blob:
        headers["ETag"] = blob.body["etag"]
    return _xml_response(f"<BlockList>{''.join(parts)}</BlockList>", headers)


def _blocks_xml(name: str, rows: list[list[Any]]) -> str:
    blocks = "".join(
        f"<Block><Name>{escape(block)}</Name><Size>{size}</Size></Block>" for block, size in rows
    )
    return f"<{name}>{blocks}</{name}>"


def _xml_response(text: str, headers: dict[str, str]) -> Response:
    raw = f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode()
    return Response(raw, 200, headers, media_type="application/xml")


@accepts(headers=("x-ms-meta-", *_ETAGS))
def set_metadata(context: RequestContext) -> Response:
    """Set Blob Metadata."""
    container, name = _container_and_blob(context)
    _check_writable(container)
    record = context.services.blobs.set_metadata(
        container, name, _metadata(context), _conditions(context)
    )
    return _write_response(record, status=200)


@accepts(headers=(*_ETAGS, *_CONTENT))
def set_headers(context: RequestContext) -> Response:
    """Set Blob Properties."""
    container, name = _container_and_blob(context)
    _check_writable(container)
    headers = _properties(context).headers
    return _write_response(
        context.services.blobs.set_headers(container, name, headers, _conditions(context)),
        status=200,
    )


def _check_writable(container: str) -> None:
    if container == LOG_CONTAINER or artifacts.parse_artifact_container(container):
        raise ApiError(
            403,
            "AuthorizationPermissionMismatch",
            "Logs and artifacts cannot be written: only jobs write them.",
        )


@accepts(headers=("range", "x-ms-range", "x-ms-range-get-content-md5", *_ETAGS))
def get_blob(context: RequestContext) -> Response:
    """Get Blob and Get Blob Properties (HEAD)."""
    container, name = _container_and_blob(context)
    if container == LOG_CONTAINER:
        return _log(context, name)
    if artifacts.parse_artifact_container(container):
        record, file = artifact_routes.find_blob(context, container, name)
        _conditions(context).check_read(record)
        return blob_response(context.request, record, file)
    record = context.services.blobs.get(container, name)
    _conditions(context).check_read(record)
    return blob_response(
        context.request, record, context.services.files.content_path(record.body["content"])
    )


def _log(context: RequestContext, name: str) -> Response:
    match = _LOG_PATH.fullmatch(name)
    log = context.services.files.log_path(match[1]) if match else None
    if log is None or not log.exists():
        raise ApiError(404, "BlobNotFound", "The specified blob does not exist.")
    return log_response(context.request, log)


@accepts(headers=_ETAGS)
def delete_blob(context: RequestContext) -> Response:
    """Delete Blob."""
    container, name = _container_and_blob(context)
    _check_writable(container)
    context.services.blobs.delete(container, name, _conditions(context))
    return Response(None, 202, {"x-ms-delete-type-permanent": "true"})


@accepts(query=("prefix", "marker", "maxresults", "include"))
def list_blobs(context: RequestContext) -> Response:
    """List Blobs, in pages, by name."""
    container, _ = _container_and_blob(context)
    prefix, marker = context.query_params.get("prefix", ""), context.query_params.get("marker", "")
    size = context.query_params.get("maxresults", "5000")
    limit = min(5000, int(size)) if re.fullmatch(r"[1-9]\d{0,6}", size) else 5000
    if artifacts.parse_artifact_container(container):
        all_blobs = artifact_routes.list_blobs(context, container, prefix)
    else:
        all_blobs = context.services.blobs.list_blobs(container, prefix)
    blobs = [b for b in all_blobs if b.key >= marker]
    rows = "".join(_blob_xml(b) for b in blobs[:limit])
    next_marker = escape(blobs[limit].key) if len(blobs) > limit else ""
    head = f'<EnumerationResults ContainerName="{container}"><Prefix>{escape(prefix)}</Prefix>'
    # azure-storage-blob requests the next page with the page size that this response reports.
    max_results = (
        f"<MaxResults>{limit}</MaxResults>" if "maxresults" in context.query_params else ""
    )
    request_echo = f"<Marker>{escape(marker)}</Marker>{max_results}"
    return _xml_response(
        f"{head}{request_echo}<Blobs>{rows}</Blobs><NextMarker>{next_marker}</NextMarker></EnumerationResults>",
        {},
    )


def _blob_xml(blob: Record) -> str:
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


def create_container(context: RequestContext) -> Response:
    """Create Container."""
    name = context.path_params["container"]
    if not 3 <= len(name) <= 63 or not _CONTAINER.fullmatch(name):
        raise ApiError(400, "InvalidResourceName", "The container's name is not valid.")
    with context.services.store.write() as writer:
        if _container_exists(context, name) or writer.get("container", "", name):
            raise ApiError(409, "ContainerAlreadyExists", "The specified container already exists.")
        writer.put("container", "", name, {})
    return Response(None, 201)


def get_container(context: RequestContext) -> Response:
    """Get Container Properties."""
    _container_and_blob(context)
    return Response(None, 200, {"x-ms-lease-status": "unlocked", "x-ms-lease-state": "available"})


def delete_container(context: RequestContext) -> Response:
    """Delete Container: only an empty one, and none of a workspace."""
    container, _ = _container_and_blob(context)
    if context.services.blobs.list_blobs(container, ""):
        raise ApiError(
            409, "ContainerBeingDeleted", "The container is not empty. Delete its blobs first."
        )
    with context.services.store.write() as writer:
        writer.delete("container", "", container)
    return Response(None, 202)


HANDLERS: dict[Op[Any], Handler] = {
    ops.BLOB_PUT: put_blob,
    ops.BLOCK_PUT: put_block,
    ops.BLOCK_LIST_PUT: put_block_list,
    ops.BLOCK_LIST_GET: get_block_list,
    ops.METADATA_PUT: set_metadata,
    ops.BLOB_HEAD: get_blob,
    ops.BLOB_GET: get_blob,
    ops.BLOB_DELETE: delete_blob,
    ops.BLOB_LIST: list_blobs,
    CONTAINER_PUT: create_container,
    CONTAINER_GET: get_container,
    CONTAINER_DELETE: delete_container,
    HEADERS_PUT: set_headers,
}
