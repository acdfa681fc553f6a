"""Route tables of the azureml dialect: its operations and their handlers."""

from __future__ import annotations

from maas_client.local.config import STORAGE_ACCOUNT
from maas_client.local.http.app import RouteTable
from maas_client.local.http.routes import (
    arm,
    artifacts,
    assets,
    blob,
    chat,
    endpoints,
    jobs,
    permissions,
    run_history,
    workspace,
)
from maas_client.wire import artifacts as artifact_ops
from maas_client.wire import azureml as ops
from maas_client.wire import blob as blob_ops
from maas_client.wire import chat as chat_ops
from maas_client.wire import local_extensions as local_ops
from maas_client.wire import permissions as right_ops

TABLES = (
    RouteTable(
        "",
        ops.OPERATIONS,
        {
            **workspace.HANDLERS,
            **assets.HANDLERS,
            **jobs.HANDLERS,
            **run_history.HANDLERS,
            **endpoints.HANDLERS,
            **arm.HANDLERS,
        },
    ),
    RouteTable("", artifact_ops.OPERATIONS, artifacts.HANDLERS),
    RouteTable("", right_ops.WORKSPACE_OPERATIONS, permissions.HANDLERS),
    RouteTable("", local_ops.OPERATIONS, jobs.LOCAL_HANDLERS),
    RouteTable("/serverless/{endpoint}", chat_ops.OPERATIONS, chat.HANDLERS),
    RouteTable(
        f"/{STORAGE_ACCOUNT}/{{container}}",
        (*blob_ops.OPERATIONS, *blob.SDK_ONLY_OPERATIONS),
        blob.HANDLERS,
    ),
)
