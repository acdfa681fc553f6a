"""The public types: pydantic models without HTTP."""

from maas_client.types.chat import ChatChunk, ChatCompletion, Message, ToolCall, Usage
from maas_client.types.datasets import Dataset
from maas_client.types.deployments import Deployment, Keys
from maas_client.types.evaluation import Evaluation
from maas_client.types.jobs import Checkpoint, Hyperparameters, Job, JobError, JobEvent, Method
from maas_client.types.models import Model
from maas_client.types.report import FileReport, Problem, Severity, ValidationReport
from maas_client.types.result import FineTuneResult

__all__ = [
    "ChatChunk",
    "ChatCompletion",
    "Checkpoint",
    "Dataset",
    "Deployment",
    "Evaluation",
    "FileReport",
    "FineTuneResult",
    "Hyperparameters",
    "Job",
    "JobError",
    "JobEvent",
    "Keys",
    "Message",
    "Method",
    "Model",
    "Problem",
    "Severity",
    "ToolCall",
    "Usage",
    "ValidationReport",
]
