"""What the local server does and Azure documents no way to ask for.

Azure Machine Learning's ``JobStatus`` has the word ``Paused`` (docs/azure-http.md section 1.5), and no
operation that leads to it.
The client sends these rows to a local server only.
"""

from __future__ import annotations

from typing import Any

from maas_client.wire import foundry_models as foundry
from maas_client.wire.azureml import API_VERSION, WORKSPACE_PATH
from maas_client.wire.op import Op, Plane

_ARM = {"api-version": API_VERSION}

JOB_PAUSE = Op(
    "jobs.pause", "POST", Plane.ARM, WORKSPACE_PATH + "/jobs/{job}/pause", type(None), query=_ARM
)
JOB_RESUME = Op(
    "jobs.resume", "POST", Plane.ARM, WORKSPACE_PATH + "/jobs/{job}/resume", type(None), query=_ARM
)

JOB_SAVE_CHECKPOINT = Op(
    "jobs.save",
    "POST",
    Plane.ARM,
    WORKSPACE_PATH + "/jobs/{job}/checkpoints",
    type(None),
    query=_ARM,
)

OPERATIONS: tuple[Op[Any], ...] = (JOB_PAUSE, JOB_RESUME, JOB_SAVE_CHECKPOINT)

FOUNDRY_JOB_SAVE_CHECKPOINT = Op(
    "fine_tuning.save", "POST", Plane.FOUNDRY, "/v1/fine_tuning/jobs/{job}/checkpoints", foundry.Job
)
"""A checkpoint on request, on the path that lists them: no service documents a way to ask for one."""
