"""Route tables of the azureml dialect: its operations and their handlers."""

from __future__ import annotations

from maas_client.local.config import STORAGE_ACCOUNT
from maas_client.local.http.app import RouteTable
from maas_client.local.http.routes import (
    arm,
    artifacts,
    assets,
    blob,
    blob_containers,
    chat,
    endpoints,
    jobs,
    mlflow,
    permissions,
    run_history,
    subscriptions,
    workspace,
)
from maas_client.wire import arm_service as service_ops
from maas_client.wire import azureml as ops
from maas_client.wire import blob as blob_ops
from maas_client.wire import chat as chat_ops
from maas_client.wire import openai_service as openai_ops
from maas_client.wire import permissions as right_ops
from maas_client.wire import tracking as artifact_ops

_ABSENT = frozenset(op.name for op in blob_ops.ABSENT_OPERATIONS)

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
    RouteTable("", service_ops.CONTAINER_OPERATIONS, assets.HANDLERS),
    RouteTable("", service_ops.REGISTRY_OPERATIONS, workspace.HANDLERS),
    RouteTable("", service_ops.DISCOVERY_OPERATIONS, subscriptions.HANDLERS),
    RouteTable("", artifact_ops.OPERATIONS, artifacts.HANDLERS),
    RouteTable("", artifact_ops.MLFLOW_OPERATIONS, mlflow.HANDLERS),
    RouteTable(
        "",
        artifact_ops.MLFLOW_ABSENT_OPERATIONS,
        {},
        not_implemented=frozenset(op.name for op in artifact_ops.MLFLOW_ABSENT_OPERATIONS),
    ),
    RouteTable("", right_ops.WORKSPACE_OPERATIONS, permissions.HANDLERS),
    RouteTable("", ops.LOCAL_OPERATIONS, jobs.LOCAL_HANDLERS),
    RouteTable(
        "/serverless/{endpoint}",
        (*chat_ops.OPERATIONS, *openai_ops.ENDPOINT_OPERATIONS),
        chat.HANDLERS,
        not_implemented=openai_ops.ABSENT_NAMES,
    ),
    RouteTable(
        f"/{STORAGE_ACCOUNT}/{{container}}",
        (
            *blob_ops.OPERATIONS,
            *blob_ops.CONTAINER_OPERATIONS,
            *blob_ops.ABSENT_CONTAINER_OPERATIONS,
            *blob_ops.ABSENT_BLOB_OPERATIONS,
        ),
        {**blob_containers.HANDLERS, **blob.HANDLERS},
        not_implemented=_ABSENT,
    ),
    *(
        RouteTable(
            f"/{STORAGE_ACCOUNT}{slash}",
            (*blob_ops.ACCOUNT_OPERATIONS, *blob_ops.ABSENT_ACCOUNT_OPERATIONS),
            blob_containers.ACCOUNT_HANDLERS,
            not_implemented=_ABSENT,
        )
        for slash in ("", "/")
    ),
)
