"""Operations of the blob REST API that this library's client does not use (docs/azure-http.md section 2.1).

The local server implements some of them for Microsoft's SDKs. The others have the names of Azure's
documentation, with which it answers 501.
"""

from __future__ import annotations

from typing import Any, Literal

from maas_client.wire.op import Op, Plane

Method = Literal["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]
_BLOB = "/{blob:path}"


def _container(name: str, method: Method, ok: int = 200, comp: str | None = None) -> Op[Any]:
    query = {"restype": "container", **({"comp": comp} if comp else {})}
    return Op(name, method, Plane.BLOB, "", type(None), ok=(ok,), query=query)


CONTAINER_PUT = _container("containers.create", "PUT", 201)
CONTAINER_GET = _container("containers.get", "GET")
CONTAINER_HEAD = _container("containers.head", "HEAD")
CONTAINER_DELETE = _container("containers.delete", "DELETE", 202)
CONTAINER_METADATA_PUT = _container("containers.set_metadata", "PUT", comp="metadata")
CONTAINER_METADATA_GET = _container("containers.metadata", "GET", comp="metadata")
CONTAINER_METADATA_HEAD = _container("containers.head_metadata", "HEAD", comp="metadata")
HEADERS_PUT = Op(
    "blobs.headers", "PUT", Plane.BLOB, _BLOB, type(None), query={"comp": "properties"}
)
METADATA_GET = Op(
    "blobs.get_metadata", "GET", Plane.BLOB, _BLOB, type(None), query={"comp": "metadata"}
)
METADATA_HEAD = Op(
    "blobs.head_metadata", "HEAD", Plane.BLOB, _BLOB, type(None), query={"comp": "metadata"}
)
CONTAINER_LIST = Op("containers.list", "GET", Plane.BLOB, "", bytes, query={"comp": "list"})

CONTAINER_OPERATIONS: tuple[Op[Any], ...] = (
    CONTAINER_PUT, CONTAINER_GET, CONTAINER_HEAD, CONTAINER_DELETE,
    CONTAINER_METADATA_PUT, CONTAINER_METADATA_GET, CONTAINER_METADATA_HEAD,
    HEADERS_PUT, METADATA_GET, METADATA_HEAD,
)  # fmt: skip
ACCOUNT_OPERATIONS: tuple[Op[Any], ...] = (CONTAINER_LIST,)


def _absent(path: str, rows: tuple[tuple[str, str, Method], ...]) -> tuple[Op[Any], ...]:
    """Return operations from rows of (name, query, method)."""
    return tuple(
        Op(name, method, Plane.BLOB, path, type(None),
           query=dict(pair.split("=") for pair in query.split("&")))
        for name, query, method in rows
    )  # fmt: skip


ABSENT_ACCOUNT_OPERATIONS = _absent("", (
    ("Get Blob Service Properties", "restype=service&comp=properties", "GET"),
    ("Set Blob Service Properties", "restype=service&comp=properties", "PUT"),
    ("Get Blob Service Stats", "restype=service&comp=stats", "GET"),
    ("Get User Delegation Key", "restype=service&comp=userdelegationkey", "POST"),
    ("Get Account Information", "restype=account&comp=properties", "GET"),
    ("Get Account Information", "restype=account&comp=properties", "HEAD"),
    ("Blob Batch", "comp=batch", "POST"),
    ("Find Blobs by Tags", "comp=blobs", "GET"),
))  # fmt: skip
ABSENT_CONTAINER_OPERATIONS = _absent("", (
    ("Get Container ACL", "restype=container&comp=acl", "GET"),
    ("Get Container ACL", "restype=container&comp=acl", "HEAD"),
    ("Set Container ACL", "restype=container&comp=acl", "PUT"),
    ("Lease Container", "restype=container&comp=lease", "PUT"),
    ("Restore Container", "restype=container&comp=undelete", "PUT"),
    ("Rename Container", "restype=container&comp=rename", "PUT"),
    ("Blob Batch", "restype=container&comp=batch", "POST"),
    ("Find Blobs by Tags in Container", "restype=container&comp=blobs", "GET"),
    ("Get Account Information", "restype=account&comp=properties", "GET"),
    ("Get Account Information", "restype=account&comp=properties", "HEAD"),
))  # fmt: skip
ABSENT_BLOB_OPERATIONS = _absent(_BLOB, (
    ("Get Blob Tags", "comp=tags", "GET"),
    ("Set Blob Tags", "comp=tags", "PUT"),
    ("Lease Blob", "comp=lease", "PUT"),
    ("Snapshot Blob", "comp=snapshot", "PUT"),
    ("Abort Copy Blob", "comp=copy", "PUT"),
    ("Set Blob Tier", "comp=tier", "PUT"),
    ("Undelete Blob", "comp=undelete", "PUT"),
    ("Set Blob Expiry", "comp=expiry", "PUT"),
    ("Set Blob Immutability Policy", "comp=immutabilitypolicies", "PUT"),
    ("Delete Blob Immutability Policy", "comp=immutabilitypolicies", "DELETE"),
    ("Set Blob Legal Hold", "comp=legalhold", "PUT"),
    ("Query Blob Contents", "comp=query", "POST"),
    ("Append Block", "comp=appendblock", "PUT"),
    ("Append Blob Seal", "comp=seal", "PUT"),
    ("Put Page", "comp=page", "PUT"),
    ("Get Page Ranges", "comp=pagelist", "GET"),
    ("Incremental Copy Blob", "comp=incrementalcopy", "PUT"),
    ("Get Account Information", "restype=account&comp=properties", "GET"),
    ("Get Account Information", "restype=account&comp=properties", "HEAD"),
))  # fmt: skip
ABSENT_OPERATIONS = (
    *ABSENT_ACCOUNT_OPERATIONS,
    *ABSENT_CONTAINER_OPERATIONS,
    *ABSENT_BLOB_OPERATIONS,
)
"""Documented operations that the local server does not implement."""
