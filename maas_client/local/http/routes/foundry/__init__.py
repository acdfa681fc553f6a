"""Route tables of the foundry dialect: its operations and their handlers.

The same operations are served under three prefixes: v1, v1 of a project, and the dated api-versions, which
alone have uploads, import and deletion of a job (docs/azure-http.md section 4.2).
"""

from __future__ import annotations

from maas_client.local.http.app import RouteTable
from maas_client.local.http.routes import permissions
from maas_client.local.http.routes.foundry import account as foundry_arm
from maas_client.local.http.routes.foundry import chat as foundry_chat
from maas_client.local.http.routes.foundry import files as foundry_files
from maas_client.local.http.routes.foundry import jobs as foundry_jobs
from maas_client.local.http.routes.foundry import project, sessions
from maas_client.wire import arm_service as service_ops
from maas_client.wire import foundry as ops
from maas_client.wire import foundry_project as project_ops
from maas_client.wire import openai_service as openai_ops
from maas_client.wire import permissions as right_ops
from maas_client.wire import sessions as session_ops

_HANDLERS = {**foundry_files.HANDLERS, **foundry_jobs.HANDLERS, **foundry_chat.HANDLERS}
_ABSENT = openai_ops.ABSENT_NAMES | {
    ops.CHECKPOINT_COPY.name,  # there is only one resource here
    ops.CHECKPOINT_COPY_STATUS.name,
    *(op.name for op in (*service_ops.ABSENT_OPERATIONS, *project_ops.ABSENT_OPERATIONS)),
}
_V1 = (*ops.OPERATIONS, *ops.LOCAL_OPERATIONS, *openai_ops.V1_OPERATIONS)

TABLES = (
    RouteTable("/openai", _V1, _HANDLERS, not_implemented=_ABSENT),
    RouteTable("/api/projects/{project}/openai", _V1, _HANDLERS, not_implemented=_ABSENT),
    RouteTable(
        "/openai",
        (
            *ops.DATED_OPERATIONS,
            *(ops.to_dated(op) for op in ops.OPERATIONS if op is not ops.CHAT),
            *openai_ops.DATED_OPERATIONS,
        ),
        {**_HANDLERS, **{ops.to_dated(op): handler for op, handler in _HANDLERS.items()}},
        not_implemented=_ABSENT,
    ),
    RouteTable(
        "",
        (*ops.INFERENCE_OPERATIONS, *openai_ops.RESOURCE_INFERENCE_OPERATIONS),
        _HANDLERS,
        not_implemented=_ABSENT,
    ),
    RouteTable(project_ops.PROJECT_PATH, project_ops.OPERATIONS, project.HANDLERS),
    RouteTable(project_ops.PROJECT_PATH, session_ops.OPERATIONS, sessions.HANDLERS),
    RouteTable(
        project_ops.PROJECT_PATH, project_ops.ABSENT_OPERATIONS, {}, not_implemented=_ABSENT
    ),
    RouteTable("", ops.ARM_OPERATIONS, foundry_arm.HANDLERS),
    RouteTable("", service_ops.ACCOUNT_OPERATIONS, foundry_arm.HANDLERS),
    RouteTable("", right_ops.ACCOUNT_OPERATIONS, permissions.HANDLERS),
    RouteTable("", service_ops.ABSENT_OPERATIONS, {}, not_implemented=_ABSENT),
)
