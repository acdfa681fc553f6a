"""Fine-tune small language models on Azure, and offline on your own machine.

Every name below is loaded when it is first used: importing this package imports nothing else.
"""

from maas_client._version import __version__ as __version__

TYPE_CHECKING = False  # type checkers read the name; importing typing would cost more than we do

if TYPE_CHECKING:
    from maas_client._client import AsyncClient as AsyncClient
    from maas_client._client import Client as Client
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
    from maas_client.types import Message as Message
    from maas_client.types import Model as Model
    from maas_client.types import Problem as Problem
    from maas_client.types import ToolCall as ToolCall
    from maas_client.types import Usage as Usage
    from maas_client.types import ValidationReport as ValidationReport
else:
    _HOME = {
        name: module
        for module, names in {
            "_client": "AsyncClient Client",
            "dataset": "validate",
            "errors": "AuthError BadRequestError ConfigError ConflictError DatasetError "
            "JobFailedError JobTimeoutError MaasError MissingExtraError ModelRetiredError "
            "NotFoundError PermissionDeniedError RateLimitError ServiceError StatusError "
            "TransportError UnsupportedError",
            "types": "ChatChunk ChatCompletion Checkpoint Dataset Deployment Evaluation FileReport "
            "FineTuneResult Hyperparameters Job JobError JobEvent Keys Message Model Problem "
            "ToolCall Usage ValidationReport",
        }.items()
        for name in names.split()
    }

    def __getattr__(name):
        from importlib import import_module

        if name in _HOME:
            value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
            globals()[name] = value
            return value
        if name in {"local", "testing", "types", "errors"}:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *_HOME})
