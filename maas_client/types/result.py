"""What ``fine_tune`` hands back."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from maas_client.types.datasets import Dataset
from maas_client.types.deployments import Deployment
from maas_client.types.jobs import Job
from maas_client.types.report import ValidationReport


class FineTuneResult(BaseModel):
    """The whole road: the check, the upload, the job and, if asked for, the deployment."""

    model_config = ConfigDict(frozen=True)

    report: ValidationReport
    dataset: Dataset
    job: Job
    deployment: Deployment | None = None
