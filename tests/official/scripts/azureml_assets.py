"""azure-ai-ml, unmodified: assets and jobs after their creation, base models of a registry, and workspaces."""

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import pytest
from azure.ai.ml import MLClient  # noqa: TID253 - an application's own script
from azure.ai.ml.constants import ListViewType  # noqa: TID253 - as above
from azure.ai.ml.entities import Data, Model  # noqa: TID253 - as above
from azure.ai.ml.finetuning import (  # noqa: TID253 - as above
    FineTuningTaskType,
    create_finetuning_job,
)
from azure.core.exceptions import (  # noqa: TID253 - as above
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.identity import ClientSecretCredential  # noqa: TID253 - as above

TRAIN = sys.argv[1]
BASE = "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1"
credential = ClientSecretCredential("72f988bf-86f1-41af-91ab-2d7cd011db47", "app", "a-secret")
ml = MLClient(credential, "11111111-2222-3333-4444-555555555555", "rg1", "assets")
ACTIVE, ARCHIVED = ListViewType.ACTIVE_ONLY, ListViewType.ARCHIVED_ONLY


def data_versions() -> None:
    """Create, tag, archive and restore the versions of a data asset, and all of them at once."""
    for version in ("1", "2", "3"):
        ml.data.create_or_update(
            Data(path=TRAIN, type="uri_file", name="chats", version=version, tags={"n": version})
        )
    first = ml.data.get("chats", "1")
    first.tags, first.description = {"n": "one"}, "first"
    ml.data.create_or_update(first)
    first = ml.data.get("chats", "1")
    assert (first.tags, first.description) == ({"n": "one"}, "first")

    def versions(view: ListViewType = ACTIVE) -> list[str]:
        return [d.version for d in ml.data.list(name="chats", list_view_type=view)]

    ml.data.archive("chats", version="2")
    assert (versions(), versions(ARCHIVED)) == (["3", "1"], ["2"])
    assert ml.data.get("chats", "2").version == "2"
    ml.data.archive("chats")
    assert "chats" not in [d.name for d in ml.data.list()]
    assert "chats" in [d.name for d in ml.data.list(list_view_type=ARCHIVED)]
    assert (versions(), versions(ARCHIVED)) == ([], ["3", "2", "1"])
    with pytest.raises(HttpResponseError, match="All versions of chats are archived"):
        ml.data.restore("chats", version="3")
    ml.data.restore("chats")
    assert (versions(), versions(ARCHIVED)) == (["3", "1"], ["2"])
    ml.data.restore("chats", label="latest")
    ml.data.restore("chats", version="2")
    assert versions() == ["3", "2", "1"]
    assert ml.data.get("chats", label="latest").version == "3"
    with pytest.raises(ResourceNotFoundError) as missing:
        ml.data.get("chats", "9")
    assert missing.value.error.code == "ResourceNotFound"
    other = Path(tempfile.mkdtemp(), "other.jsonl")
    other.write_text("{}\n")
    with pytest.raises(ResourceExistsError, match="Asset paths cannot be updated"):
        ml.data.create_or_update(Data(path=str(other), type="uri_file", name="chats", version="1"))


def finish(name: str) -> None:
    """Train a model and wait for it."""
    data = ml.data.get("chats", "1").id
    ml.jobs.create_or_update(
        create_finetuning_job(
            name=name, model=BASE, task=FineTuningTaskType.CHAT_COMPLETION, training_data=data,
            validation_data=data, hyperparameters={"num_train_epochs": "1"},
            output_model_name_prefix="tuned", experiment_name="second acts",
        )
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        ml.jobs.stream(name)


def models() -> None:
    """Tag, archive, restore and download the model of a job; its versions cannot be replaced."""
    finish("job1")
    finish("job2")
    model = ml.models.get("tuned", label="latest")
    assert (model.version, ml.models.get("tuned", "1").job_name) == ("2", "job1")
    assert [m.version for m in ml.models.list(name="tuned")] == ["2", "1"]
    model.tags, model.description = {"team": "x"}, "best"
    ml.models.create_or_update(model)
    model = ml.models.get("tuned", "2")
    assert (model.tags, model.description) == ({"team": "x"}, "best")
    assert model.properties["baseModelId"] == "Phi-4-mini-instruct"

    folder = Path(tempfile.mkdtemp())
    ml.models.download("tuned", "2", download_path=folder)
    assert [p for p in (folder / "tuned" / "outputs").rglob("*") if p.stat().st_size]

    def versions(view: ListViewType = ACTIVE) -> list[str]:
        return [m.version for m in ml.models.list(name="tuned", list_view_type=view)]

    ml.models.archive("tuned", version="1")
    assert (versions(), versions(ARCHIVED)) == (["2"], ["1"])
    assert ml.models.get("tuned", "2").tags == {"team": "x"}
    ml.models.archive("tuned")
    assert "tuned" not in [m.name for m in ml.models.list()]
    ml.models.restore("tuned")
    ml.models.restore("tuned", version="1")
    assert versions() == ["2", "1"]
    with pytest.raises(HttpResponseError, match="modelUri of model tuned version 1"):
        ml.models.create_or_update(Model(path=TRAIN, name="tuned", version="1"))
    with pytest.raises(ResourceNotFoundError):
        ml.models.get("tuned", "9")
    with pytest.raises(ResourceNotFoundError):
        ml.models.download("none", "1", download_path=folder)


def jobs() -> None:
    """Ask for the services of a job, archive it and restore it."""
    assert ml.jobs.show_services("job1") is None
    with pytest.raises(ResourceNotFoundError):
        ml.jobs.show_services("none")
    ml.jobs.archive("job1")
    assert [j.name for j in ml.jobs.list(list_view_type=ARCHIVED)] == ["job1"]
    ml.jobs.restore("job1")
    assert {j.name for j in ml.jobs.list()} == {"job1", "job2"}
    job = ml.jobs.get("job1")
    job.tags, job.description, job.display_name = {"team": "x"}, "first", "shown"
    ml.jobs.create_or_update(job)
    job = ml.jobs.get("job1")
    assert (job.tags, job.description, job.display_name) == ({"team": "x"}, "first", "shown")
    assert [j.name for j in ml.jobs.list(tag="team")] == ["job1"]
    assert not list(ml.jobs.list(tag="absent"))
    assert not list(ml.jobs.list(job_type="Command"))
    assert not list(ml.jobs.list(parent_job_name="job1"))


def registry() -> None:
    """Find base models as Microsoft's notebook for Phi-4-mini does."""
    azureml = MLClient(credential, registry_name="azureml")
    latest = azureml.models.get("Phi-4-mini-instruct", label="latest")
    assert (
        latest.id
        == f"azureml://registries/azureml/models/Phi-4-mini-instruct/versions/{latest.version}"
    )
    assert [m.version for m in azureml.models.list(name="Phi-4-mini-instruct")] == [latest.version]
    assert "Phi-4-mini-instruct" in [m.name for m in azureml.models.list()]
    with pytest.raises(ResourceNotFoundError):
        azureml.models.get("Phi-4-mini-instructions", version="1")


def workspaces() -> None:
    """List the workspaces that were used."""
    assert "assets" in [w.name for w in ml.workspaces.list()]
    assert ml.workspaces.get("assets").name == "assets"
    with pytest.raises(HttpResponseError) as absent:
        ml.online_endpoints.list().next()
    assert (absent.value.status_code, absent.value.error.code) == (501, "NotImplemented")


started = time.monotonic()
for act in (data_versions, models, jobs, registry, workspaces):
    act()
print(f"{time.monotonic() - started:.1f} s", "answered", sep="\n")
