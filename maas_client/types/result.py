"""The result of ``client.fine_tune``."""

from __future__ import annotations

from pydantic import Field

from maas_client.types._api_model import FrozenModel
from maas_client.types.datasets import Dataset
from maas_client.types.deployments import Deployment
from maas_client.types.jobs import Job
from maas_client.types.report import ValidationReport

__all__ = ["FineTuneResult"]


class FineTuneResult(FrozenModel):
    """Everything that ``client.fine_tune`` did.

    Attributes:
        report: The validation of the training file.
        dataset: The uploaded training file.
        job: The finished job.
        deployment: The deployment; None with ``deploy=None``.
    """

    report: ValidationReport = Field(repr=False)
    dataset: Dataset = Field(repr=False)
    job: Job
    deployment: Deployment | None = None
