"""Files and uploads of a Foundry resource (docs/azure-http.md section 4.2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from starlette.datastructures import UploadFile  # noqa: TID253 - only the server imports this module
from starlette.formparsers import MultiPartException  # noqa: TID253 - as above
from starlette.responses import FileResponse, JSONResponse, Response  # noqa: TID253 - as above

from maas_client.local.http.app import Handler, RequestContext
from maas_client.local.http.routes.foundry import results
from maas_client.local.http.routes.foundry.responses import (
    created_response,
    file_store,
    list_response,
)
from maas_client.local.resources.errors import ApiError
from maas_client.local.resources.foundry_files import (
    MAX_PART_BYTES,
    PURPOSE,
    FoundryUploads,
    invalid_payload,
)
from maas_client.local.state.files import Draft
from maas_client.local.state.store import Record
from maas_client.wire import foundry as ops
from maas_client.wire.op import Op

_ANCHOR = ("expires_after.anchor", "expires_after[anchor]")
_SECONDS = ("expires_after.seconds", "expires_after[seconds]")
_CHUNK = 1 << 20
_PURPOSES = (PURPOSE, results.RESULTS_PURPOSE)


@asynccontextmanager
async def _received(
    call: RequestContext, field: str, known: frozenset[str]
) -> AsyncIterator[tuple[dict[str, str], str, Draft]]:
    """Yield a form's fields, the file's name and its bytes. Fields nobody knows are refused by name."""
    try:
        async with call.request.form(max_files=1, max_fields=8) as form:
            unknown = sorted(set(form) - known - {field})
            if unknown:
                raise invalid_payload(
                    f"Unrecognized form field supplied: {unknown[0][:60]}", param=unknown[0]
                )
            sent = form.get(field)
            if not isinstance(sent, UploadFile):
                raise invalid_payload(f"{field} is required: the bytes of the file.", param=field)
            said = {k: v for k, v in form.items() if isinstance(v, str)}
            with file_store(call).draft() as draft:
                await anyio.to_thread.run_sync(_copy, sent, draft)
                yield said, _plain(sent.filename), draft
    except MultiPartException as broken:
        raise invalid_payload(f"The form cannot be read: {broken.message}") from None


def _copy(sent: UploadFile, draft: Draft) -> None:
    while data := sent.file.read(_CHUNK):
        draft.write(data)


def _plain(name: str | None) -> str:
    """Return a file's name as a label: it is shown, never used as a path."""
    kept = (name or "upload").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c for c in kept if c.isprintable())[:255] or "upload"


async def create(call: RequestContext) -> Response:
    """POST: multipart with purpose and file."""
    known = frozenset({"purpose", *_ANCHOR, *_SECONDS})
    async with _received(call, "file", known) as (said, name, draft):
        _check_purpose(said.get("purpose"))
        expires_s = _expiry(said)
        fact = await anyio.to_thread.run_sync(file_store(call).add, draft, name, expires_s)
    # What was just sent is shown as the service shows it: it has yet to be looked through.
    return created_response(
        call, {**file_to_json(fact), "status": "pending", "status_details": None}
    )


def _check_purpose(said: Any) -> None:
    if said != PURPOSE:
        raise invalid_payload(
            f"purpose must be {PURPOSE}: this server keeps training files.", param="purpose"
        )


def _expiry(said: dict[str, str]) -> int | None:
    anchor = next((said[name] for name in _ANCHOR if name in said), None)
    seconds = next((said[name] for name in _SECONDS if name in said), None)
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise invalid_payload(
            "expires_after.anchor must be created_at.", param="expires_after.anchor"
        )
    if not (seconds and seconds.isascii() and seconds.isdigit()
            and 1_209_600 <= int(seconds[:9]) <= 2_592_000):  # fmt: skip
        raise invalid_payload(
            "expires_after.seconds must be from 1209600 to 2592000.", param="expires_after.seconds"
        )
    return int(seconds)


def file_to_json(fact: Record) -> dict[str, Any]:
    """Return a file as the service shows it."""
    body = fact.body
    shown = {
        "object": "file",
        "id": fact.key,
        "bytes": body["bytes"],
        "created_at": body["created"],
        "filename": body["filename"],
        "purpose": body["purpose"],
        "status": fact.state,
        "status_details": body["problem"],
    }
    return shown | ({"expires_at": body["expires"]} if body.get("expires") else {})


def listing(call: RequestContext) -> dict[str, Any]:
    """GET all, newest first."""
    purpose = call.query_params.get("purpose")
    if purpose and purpose not in _PURPOSES:
        shown = []
    else:
        shown = (
            []
            if purpose == results.RESULTS_PURPOSE
            else [file_to_json(f) for f in file_store(call).all()]
        )
        shown += [] if purpose == PURPOSE else results.list_all(call)
        shown.sort(key=lambda d: -int(d["created_at"]))
    return list_response(
        call, shown, lambda d: str(d["id"]), lambda d: d, default_limit=10_000, max_limit=10_000
    )


def get(call: RequestContext) -> dict[str, Any]:
    """GET one; a job's results are a file too."""
    found = results.find_job(call, call.path_params["file"])
    return results.to_json(call, found) if found else file_to_json(_fact(call))


def _fact(call: RequestContext) -> Record:
    return file_store(call).get(call.path_params["file"])


def content(call: RequestContext) -> Response:
    """GET the bytes."""
    found = results.find_job(call, call.path_params["file"])
    if found:
        return Response(results.to_csv(call, found), 200, media_type="application/octet-stream")
    path = file_store(call).path(_fact(call))
    return FileResponse(path, 200, media_type="application/octet-stream")


def delete(call: RequestContext) -> dict[str, Any]:
    """DELETE one; a job that names it goes on."""
    file_store(call).delete(call.path_params["file"])
    return {"object": "file", "id": call.path_params["file"], "deleted": True}


def fetch(call: RequestContext) -> Response:
    """POST import by url: refused, this server fetches nothing from elsewhere."""
    raise ApiError(
        400, "fileImportFailed",
        "This server fetches nothing from other places: send the file's bytes to /files.",
        target="content_url",
    )  # fmt: skip


# -- uploads --------------------------------------------------------------------------------------


def _uploads(call: RequestContext) -> FoundryUploads:
    return FoundryUploads(call.services.store, call.services.files, file_store(call))


def begin(call: RequestContext) -> Response:
    """POST: name, size and purpose of what will come in parts."""
    body = call.json
    unknown = sorted(set(body) - {"filename", "purpose", "bytes", "mime_type", "expires_after"})
    if unknown:
        raise invalid_payload(
            f"Unrecognized request argument supplied: {unknown[0][:60]}", param=unknown[0]
        )
    _check_purpose(body.get("purpose"))
    for name, kind in (("filename", str), ("bytes", int), ("mime_type", str)):
        if not isinstance(body.get(name), kind) or isinstance(body.get(name), bool):
            raise invalid_payload(f"{name} is required.", param=name)
    return JSONResponse(_shown(_uploads(call).create(_plain(body["filename"]), body["bytes"])))


async def part(call: RequestContext) -> Response:
    """POST the bytes of a part."""
    async with _received(call, "data", frozenset()) as (_, _, draft):
        if draft.size > MAX_PART_BYTES:
            raise invalid_payload(
                f"A part has at most {MAX_PART_BYTES} bytes.", param="data", status=413
            )
        own, born = await anyio.to_thread.run_sync(
            _uploads(call).add_part, call.path_params["upload"], draft
        )
    return JSONResponse(
        {
            "object": "upload.part",
            "id": own,
            "created_at": born,
            "upload_id": call.path_params["upload"],
            "azure_block_id": own.removeprefix("part_"),
        }
    )


def complete(call: RequestContext) -> Response:
    """POST: the parts in their order, and the MD5 of the whole."""
    body = call.json
    unknown = sorted(set(body) - {"part_ids", "md5"})
    if unknown:
        raise invalid_payload(
            f"Unrecognized request argument supplied: {unknown[0][:60]}", param=unknown[0]
        )
    parts, md5 = body.get("part_ids"), body.get("md5")
    if not isinstance(parts, list) or not all(isinstance(p, str) for p in parts):
        raise invalid_payload("part_ids is required: a list of ids.", param="part_ids")
    if md5 is not None and not isinstance(md5, str):
        raise invalid_payload("md5 must be a string of hex digits.", param="md5")
    upload, file = _uploads(call).complete(call.path_params["upload"], parts, md5)
    held = {**file_to_json(file), "status": "pending", "status_details": None}
    return JSONResponse({**_shown(upload), "file": held})


def cancel(call: RequestContext) -> Response:
    """POST cancel."""
    return JSONResponse(_shown(_uploads(call).cancel(call.path_params["upload"])))


def _shown(fact: Record) -> dict[str, Any]:
    body = fact.body
    return {
        "object": "upload",
        "id": fact.key,
        "bytes": body["bytes"],
        "created_at": body["created"],
        "expires_at": body["created"] + 3600,
        "filename": body["filename"],
        "purpose": PURPOSE,
        "status": fact.state,
        "file": None,
    }


HANDLERS: dict[Op[Any], Handler] = {
    ops.FILE_CREATE: create,
    ops.FILE_LIST: listing,
    ops.FILE_GET: get,
    ops.FILE_CONTENT: content,
    ops.FILE_DELETE: delete,
    ops.FILE_IMPORT: fetch,
    ops.UPLOAD_CREATE: begin,
    ops.UPLOAD_PART: part,
    ops.UPLOAD_COMPLETE: complete,
    ops.UPLOAD_CANCEL: cancel,
}
