"""The public types: pydantic models without HTTP.

All of them are immutable. Results of the service keep its unchanged response in ``raw``.
"""

from maas_client.types.chat import (
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    FunctionCall,
    Message,
    ToolCall,
    Usage,
)
from maas_client.types.datasets import Dataset
from maas_client.types.deployments import Deployment, Keys, Model
from maas_client.types.evaluation import AnswerScore, Evaluation, LabelScores, Scores
from maas_client.types.hyperparameters import Hyperparameters
from maas_client.types.jobs import Checkpoint, FineTuneResult, Job, JobError, JobEvent, Method
from maas_client.types.report import FileReport, Problem, Severity, ValidationReport

__all__ = [
    "AnswerScore",
    "ChatChunk",
    "ChatCompletion",
    "Checkpoint",
    "Choice",
    "ChunkChoice",
    "Dataset",
    "Delta",
    "Deployment",
    "Evaluation",
    "FileReport",
    "FineTuneResult",
    "FunctionCall",
    "Hyperparameters",
    "Job",
    "JobError",
    "JobEvent",
    "Keys",
    "LabelScores",
    "Message",
    "Method",
    "Model",
    "Problem",
    "Scores",
    "Severity",
    "ToolCall",
    "Usage",
    "ValidationReport",
]
