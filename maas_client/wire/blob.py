"""The blob REST API, as far as training files need it (docs/azure-http.md section 2.1).

The base address is the container's (``https://{account}.blob.core.windows.net/{container}``) with its
SAS behind it. On loopback the account stands in the path, as Azurite has it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any
from urllib.parse import urlencode

from maas_client.wire.azureml_models import DatastoreProperties
from maas_client.wire.op import Op, Plane

BLOB_API_VERSION = "2024-11-04"
"""Sent as ``x-ms-version``; any well-formed date is accepted by our server."""

UPLOAD_STATUS_HEADER = "x-ms-meta-upload_status"
"""``completed`` on a blob that azure-ai-ml, or this client, has finished."""

BLOB_PUT = Op("blobs.put", "PUT", Plane.BLOB, "/{blob:path}", type(None), ok=(201,), body="bytes")
BLOCK_PUT = Op(
    "blocks.put",
    "PUT",
    Plane.BLOB,
    "/{blob:path}",
    type(None),
    ok=(201,),
    body="bytes",
    query={"comp": "block"},
)
"""Query ``blockid``: base64, the same length for all blocks of a blob."""
BLOCK_LIST_PUT = Op(
    "blocks.commit",
    "PUT",
    Plane.BLOB,
    "/{blob:path}",
    type(None),
    ok=(201,),
    body="xml",
    query={"comp": "blocklist"},
)
BLOCK_LIST_GET = Op(
    "blocks.list",
    "GET",
    Plane.BLOB,
    "/{blob:path}",
    bytes,
    query={"comp": "blocklist", "blocklisttype": "all"},
)
METADATA_PUT = Op(
    "blobs.metadata",
    "PUT",
    Plane.BLOB,
    "/{blob:path}",
    type(None),
    query={"comp": "metadata"},
)
"""200 and nothing else: a 201 makes the official SDK raise."""
BLOB_HEAD = Op("blobs.head", "HEAD", Plane.BLOB, "/{blob:path}", type(None))
BLOB_GET = Op("blobs.get", "GET", Plane.BLOB, "/{blob:path}", bytes, ok=(200, 206))
BLOB_DELETE = Op("blobs.delete", "DELETE", Plane.BLOB, "/{blob:path}", type(None), ok=(202,))
BLOB_LIST = Op(
    "blobs.list", "GET", Plane.BLOB, "", bytes, query={"restype": "container", "comp": "list"}
)

OPERATIONS: tuple[Op[Any], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Op)
)

_IP_OR_LOCAL = re.compile(r"^(localhost|\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\])(:\d+)?$")


def container_url(store: DatastoreProperties) -> str:
    """Return the container's address; an endpoint that is an IP address or localhost takes the
    account in its path (Azurite's convention), since ``account.blob.127.0.0.1`` is no host."""
    if _IP_OR_LOCAL.match(store.endpoint):
        return f"{store.protocol}://{store.endpoint}/{store.account_name}/{store.container_name}"
    host = f"{store.account_name}.blob.{store.endpoint}"
    return f"{store.protocol}://{host}/{store.container_name}"


def block_id(index: int, digest: bytes) -> str:
    """Return a block id that names place and content, so that a second run finds what is there.

    48 bytes before base64: 16 digits of the index and 32 of the block's digest, in hex.
    """
    return base64.b64encode(f"{index:016d}{digest.hex()[:32]}".encode()).decode()


def block_list_xml(ids: list[str]) -> bytes:
    """Return the body of Put Block List, in the order of the content."""
    rows = "".join(f"<Latest>{escape(i)}</Latest>" for i in ids)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{rows}</BlockList>'.encode()


def create_sas(store: DatastoreProperties, key: str, *, hours: float = 1.0) -> str:
    """Return a container SAS made with an account key: read, create, write and list, https unless the
    store itself is plain. Layout of the signed string: Azure Storage, service SAS, version 2020-12-06.
    """
    start = datetime.now(UTC) - timedelta(minutes=5)
    end = start + timedelta(hours=hours, minutes=5)
    said = {
        "sp": "rcwl",
        "st": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "se": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "spr": "https" if store.protocol == "https" else "https,http",
        "sv": "2020-12-06",
        "sr": "c",
    }
    resource = f"/blob/{store.account_name}/{store.container_name}"
    lines = [
        *(
            said["sp"],
            said["st"],
            said["se"],
            resource,
            "",
            "",
            said["spr"],
            said["sv"],
            said["sr"],
        ),
        *("", "", "", "", "", "", ""),  # snapshot, encryption scope, five response headers
    ]
    digest = hmac.new(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256).digest()
    return urlencode({**said, "sig": base64.b64encode(digest).decode()})
