"""Fine-tune small language models on Azure, and offline on your own machine.

The client validates chat data, runs fine-tuning jobs, deploys the results and chats with them: in Azure ML
(where Phi models are tuned), in Microsoft Foundry, or on a local server that trains for real.

    import maas_client as maas

    report = maas.validate("train.jsonl", model="Phi-4-mini-instruct")
    report.raise_if_invalid()

    with maas.Client.local() as client:
        result = client.fine_tune("train.jsonl", model="Phi-4-mini-instruct", deploy="tickets")
        reply = client.chat.complete("tickets", [{"role": "user", "content": "Hello"}])
        print(reply.choices[0].message.content)

Public names:

    validate                    check training files, without network
    Client, AsyncClient         .azureml(), .foundry(), .local(), .from_env();
                                .datasets .jobs .models .deployments .chat .sessions
                                .fine_tune() .evaluate()
    Hyperparameters             what a job takes
    Dataset, Job, JobEvent, JobError, Checkpoint, Model, Deployment, Keys, FineTuneResult,
    ChatCompletion, ChatChunk, Message, ToolCall, Usage, Evaluation,
    ValidationReport, FileReport, Problem,
    Session, SessionCheckpoint, LossResult, StepResult, SampleResult, SampledSequence
                                what the client returns
    TrainingExample             what client.sessions trains on
    Places                      where an exported job reads and writes
    StrPath, Lifetime, Method, ProgressCallback, Messages
                                types of parameters
    MaasError                   the base class of all errors, see maas_client.errors
    graders.load, .score        Azure's graders of reinforcement fine-tuning
    local.serve                 a local server in this program
    testing                     a pytest plugin with the fixture maas_server

Every name is loaded when it is first used: importing this package imports nothing else.
"""

from maas_client._version import __version__ as __version__

TYPE_CHECKING = False  # read by type checkers; importing typing would take longer than this module

if TYPE_CHECKING:
    from maas_client import errors as errors
    from maas_client import graders as graders
    from maas_client import local as local
    from maas_client import types as types
    from maas_client._client import AsyncClient as AsyncClient
    from maas_client._client import Client as Client
    from maas_client._display.progress import ProgressCallback as ProgressCallback
    from maas_client.dataset import validate as validate
    from maas_client.errors import AuthError as AuthError
    from maas_client.errors import BadRequestError as BadRequestError
    from maas_client.errors import ConfigError as ConfigError
    from maas_client.errors import ConflictError as ConflictError
    from maas_client.errors import DatasetError as DatasetError
    from maas_client.errors import JobFailedError as JobFailedError
    from maas_client.errors import JobTimeoutError as JobTimeoutError
    from maas_client.errors import MaasError as MaasError
    from maas_client.errors import MissingExtraError as MissingExtraError
    from maas_client.errors import ModelRetiredError as ModelRetiredError
    from maas_client.errors import NotFoundError as NotFoundError
    from maas_client.errors import PermissionDeniedError as PermissionDeniedError
    from maas_client.errors import RateLimitError as RateLimitError
    from maas_client.errors import ServiceError as ServiceError
    from maas_client.errors import StatusError as StatusError
    from maas_client.errors import TransportError as TransportError
    from maas_client.errors import UnsupportedError as UnsupportedError
    from maas_client.flows.chat import Messages as Messages
    from maas_client.flows.deployments import Lifetime as Lifetime
    from maas_client.flows.identifiers import StrPath as StrPath
    from maas_client.platforms import Places as Places
    from maas_client.types import ChatChunk as ChatChunk
    from maas_client.types import ChatCompletion as ChatCompletion
    from maas_client.types import Checkpoint as Checkpoint
    from maas_client.types import Dataset as Dataset
    from maas_client.types import Deployment as Deployment
    from maas_client.types import Evaluation as Evaluation
    from maas_client.types import FileReport as FileReport
    from maas_client.types import FineTuneResult as FineTuneResult
    from maas_client.types import Hyperparameters as Hyperparameters
    from maas_client.types import Job as Job
    from maas_client.types import JobError as JobError
    from maas_client.types import JobEvent as JobEvent
    from maas_client.types import Keys as Keys
    from maas_client.types import LossResult as LossResult
    from maas_client.types import Message as Message
    from maas_client.types import Method as Method
    from maas_client.types import Model as Model
    from maas_client.types import Problem as Problem
    from maas_client.types import SampledSequence as SampledSequence
    from maas_client.types import SampleResult as SampleResult
    from maas_client.types import Session as Session
    from maas_client.types import SessionCheckpoint as SessionCheckpoint
    from maas_client.types import StepResult as StepResult
    from maas_client.types import ToolCall as ToolCall
    from maas_client.types import TrainingExample as TrainingExample
    from maas_client.types import Usage as Usage
    from maas_client.types import ValidationReport as ValidationReport

__all__ = [
    "AsyncClient",
    "AuthError",
    "BadRequestError",
    "ChatChunk",
    "ChatCompletion",
    "Checkpoint",
    "Client",
    "ConfigError",
    "ConflictError",
    "Dataset",
    "DatasetError",
    "Deployment",
    "Evaluation",
    "FileReport",
    "FineTuneResult",
    "Hyperparameters",
    "Job",
    "JobError",
    "JobEvent",
    "JobFailedError",
    "JobTimeoutError",
    "Keys",
    "Lifetime",
    "LossResult",
    "MaasError",
    "Message",
    "Messages",
    "Method",
    "MissingExtraError",
    "Model",
    "ModelRetiredError",
    "NotFoundError",
    "PermissionDeniedError",
    "Places",
    "Problem",
    "ProgressCallback",
    "RateLimitError",
    "SampleResult",
    "SampledSequence",
    "ServiceError",
    "Session",
    "SessionCheckpoint",
    "StatusError",
    "StepResult",
    "StrPath",
    "ToolCall",
    "TrainingExample",
    "TransportError",
    "UnsupportedError",
    "Usage",
    "ValidationReport",
    "__version__",
    "errors",
    "graders",
    "local",
    "types",
    "validate",
]

if not TYPE_CHECKING:
    _MODULES = ("errors", "graders", "local", "testing", "types")
    _MODULE_OF = {
        name: module
        for module, names in {
            "_client": "AsyncClient Client",
            "dataset": "validate",
            "errors": "AuthError BadRequestError ConfigError ConflictError DatasetError "
            "JobFailedError JobTimeoutError MaasError MissingExtraError ModelRetiredError "
            "NotFoundError PermissionDeniedError RateLimitError ServiceError StatusError "
            "TransportError UnsupportedError",
            "_display.progress": "ProgressCallback",
            "flows.chat": "Messages",
            "flows.deployments": "Lifetime",
            "flows.identifiers": "StrPath",
            "platforms": "Places",
            "types": "ChatChunk ChatCompletion Checkpoint Dataset Deployment Evaluation FileReport "
            "FineTuneResult Hyperparameters Job JobError JobEvent Keys LossResult Message Method Model "
            "Problem SampleResult SampledSequence Session SessionCheckpoint StepResult ToolCall "
            "TrainingExample Usage ValidationReport",
        }.items()
        for name in names.split()
    }

    def __getattr__(name):
        from importlib import import_module

        if name in _MODULE_OF:
            value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
            globals()[name] = value
            return value
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*(name for name in globals() if name.startswith("_")), *__all__})
