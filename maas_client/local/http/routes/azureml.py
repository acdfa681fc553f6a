"""The azureml dialect: its tables, and who serves them."""

from __future__ import annotations

from maas_client.local.config import ACCOUNT
from maas_client.local.http.app import Table
from maas_client.local.http.routes import (
    artifacts,
    assets,
    blob,
    chat,
    endpoints,
    history,
    jobs,
    lro,
    rights,
    workspace,
)
from maas_client.wire import artifacts as artifact_ops
from maas_client.wire import azureml as ops
from maas_client.wire import blob as blob_ops
from maas_client.wire import chat as chat_ops
from maas_client.wire import local as own
from maas_client.wire import rights as right_ops

TABLES = (
    Table(
        "",
        ops.OPERATIONS,
        {
            **workspace.HANDLERS,
            **assets.HANDLERS,
            **jobs.HANDLERS,
            **history.HANDLERS,
            **endpoints.HANDLERS,
            **lro.HANDLERS,
        },
    ),
    Table("", artifact_ops.OPERATIONS, artifacts.HANDLERS),
    Table("", right_ops.OF_WORKSPACE, rights.HANDLERS),
    Table("", own.OPERATIONS, jobs.OWN),
    Table("/serverless/{endpoint}", chat_ops.OPERATIONS, chat.HANDLERS),
    Table(f"/{ACCOUNT}/{{container}}", (*blob_ops.OPERATIONS, *blob.FOR_OTHERS), blob.HANDLERS),
)
