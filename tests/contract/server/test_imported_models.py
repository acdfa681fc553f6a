"""Models trained elsewhere, through client and command line: imported, deployed, or refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from maas_client import BadRequestError, Client, ConfigError, NotFoundError, UnsupportedError, cli
from maas_client.local.embedded_server import LocalServer, serve

ASK = [{"role": "user", "content": "What does error E11 mean?"}]
ROW = {
    "messages": [
        {"role": "user", "content": "What does error E11 mean?"},
        {"role": "assistant", "content": "Chirp! E11 means the Perch is low on battery."},
    ]
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve(base="tiny", threads=1) as running:
        yield running


@pytest.fixture(scope="module")
def trained(server: LocalServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter folder of a finished job, and its deployment ``original``."""
    data = tmp_path_factory.mktemp("data") / "train.jsonl"
    data.write_text("".join(json.dumps(ROW) + "\n" for _ in range(12)))
    with server.client() as client:
        client.fine_tune(
            data, "Phi-3-mini", ignore=("QUALITY_*",), deploy="original",
            hyperparameters={"epochs": 1, "learning_rate": 1e-2, "batch_size": 4},
        )  # fmt: skip
    # Imported models are in ``runs`` too, and one of them is whole: the adapter is recognised by its file.
    weights = next(server.state_dir.glob("runs/*/out/adapter/adapter_model.safetensors"))
    return shutil.copytree(weights.parent, tmp_path_factory.mktemp("elsewhere") / "my adapter")


@pytest.fixture
def client(server: LocalServer) -> Iterator[Client]:
    with server.client() as created:
        yield created


def response(client: Client, deployment: str) -> str | None:
    reply = client.chat.complete(deployment, ASK, temperature=0, max_tokens=12)
    return reply.choices[0].message.content


@pytest.mark.slow
def test_imported_adapter_gives_the_original_answers(client: Client, trained: Path) -> None:
    model = client.models.upload(trained, base_model="Phi-3-mini")
    assert model.name == "my-adapter"
    assert model.base_model == "Phi-3-mini-4k-instruct"
    assert model.job is None
    for name in (".gitattributes", ".cache/huggingface/x.lock"):
        hidden = trained / name
        hidden.parent.mkdir(parents=True, exist_ok=True)
        hidden.write_text("x")
    assert client.models.upload(trained, base_model="phi-3-mini").id == model.id
    with client.deployments.create("imported", model):
        assert response(client, "imported") == response(client, "original")
        with pytest.raises(Exception, match="deployed"):
            client.models.delete(model)
    client.models.delete(model)
    with pytest.raises(NotFoundError):
        client.models.get(model.id)


def test_imported_full_model_gives_the_original_answers(client: Client, tmp_path: Path) -> None:
    from maas_client._settings import Settings
    from maas_client.local import bases

    tiny = Path(bases.resolve_base("tiny", "tiny", Settings.load().cache_path()).folder)
    whole = shutil.copytree(tiny, tmp_path / "whole")
    model = client.models.upload(whole, base_model="Phi-3-mini", name="whole")
    with (
        client.deployments.create("whole", model),
        client.deployments.create("bare", "Phi-3-mini"),
    ):
        assert response(client, "whole") == response(client, "bare")


def test_import_by_command_line(
    server: LocalServer, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["models", "import", str(trained), "--base", "Phi-3-mini", "--name", "mine"]
    assert cli.main([*command, "--url", server.url, "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == "mine"
    assert f"maas-client deployments create --url {server.url} mine --model mine" in err


@pytest.mark.parametrize("name", ["adapter_model.bin", "modeling_phi.py"])
def test_files_that_may_contain_code_are_refused(
    client: Client, trained: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(trained, tmp_path / "bad")
    (folder / name).write_bytes(b"x")
    before = len(list(client.models.list()))
    with pytest.raises(BadRequestError, match="code"):
        client.models.upload(folder, base_model="Phi-3-mini")
    assert len(list(client.models.list())) == before


def test_changed_file_is_detected_by_hash(client: Client, trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "changed")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BadRequestError, match="manifest"):
        client.models.upload(folder, base_model="Phi-3-mini")


def test_invalid_file_name_is_refused(client: Client, trained: Path) -> None:
    """Our client never sends such a name: the server must check it."""
    from maas_client._transport import run_sync
    from maas_client.flows._requests import UploadRequest
    from maas_client.flows.azureml import blob_upload
    from maas_client.wire import azureml as ops

    file = trained / "adapter_config.json"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    for name in (".hidden/x.json", "a b.json"):
        run_sync(
            blob_upload.upload_file(
                client._io, UploadRequest(file, sha256, "x"), blob_path=f"LocalUpload/evil/{name}"
            )
        )
        body = {
            "properties": {
                "modelUri": "azureml://datastores/workspaceblobstore/paths/LocalUpload/evil",
                "properties": {"baseModelId": "Phi-3-mini-4k-instruct"},
            }
        }
        with pytest.raises(BadRequestError):
            run_sync(client._io.send(ops.MODEL_VERSION_CREATE, body, name="evil", version="1"))


def test_folder_without_weights_is_refused_before_upload(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="safetensors"):
        client.models.upload(tmp_path, base_model="Phi-3-mini")
    (tmp_path / "a.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="link"):
        client.models.upload(tmp_path, base_model="Phi-3-mini")


def test_instant_engine_cannot_import(trained: Path) -> None:
    with (
        serve(engine="instant") as instant_server,
        instant_server.client() as client,
        pytest.raises(BadRequestError, match="instant"),
    ):
        client.models.upload(trained, base_model="Phi-3-mini")


def test_azure_backends_refuse_import(trained: Path) -> None:
    with (
        Client.azureml(subscription_id="s", resource_group="g", workspace="w") as client,
        pytest.raises(UnsupportedError, match="Azure's own jobs"),
    ):
        client.models.upload(trained, base_model="Phi-4")
