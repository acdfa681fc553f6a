"""Operations of the local server that Azure does not have. The client sends them to a local server only.

Azure Machine Learning has the job status ``Paused`` (docs/azure-http.md section 1.5), but no operation that
pauses a job.
"""

from __future__ import annotations

from typing import Any

from maas_client.wire import foundry_models as foundry
from maas_client.wire.azureml import API_VERSION, WORKSPACE_PATH
from maas_client.wire.op import Op, Plane


def _post(name: str, path: str) -> Op[None]:
    query = {"api-version": API_VERSION}
    return Op(name, "POST", Plane.ARM, WORKSPACE_PATH + path, type(None), query=query)


JOB_PAUSE = _post("jobs.pause", "/jobs/{job}/pause")
JOB_RESUME = _post("jobs.resume", "/jobs/{job}/resume")
JOB_SAVE_CHECKPOINT = _post("jobs.save", "/jobs/{job}/checkpoints")

OPERATIONS: tuple[Op[Any], ...] = (JOB_PAUSE, JOB_RESUME, JOB_SAVE_CHECKPOINT)

FOUNDRY_JOB_SAVE_CHECKPOINT = Op(
    "fine_tuning.save", "POST", Plane.FOUNDRY, "/v1/fine_tuning/jobs/{job}/checkpoints", foundry.Job
)
"""Saves a checkpoint. The path is that of the list of checkpoints."""
