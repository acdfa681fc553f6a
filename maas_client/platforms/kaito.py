"""Export a job as a KAITO ``Workspace`` (kaito.sh/v1beta1) for fine-tuning, with its ConfigMap.

Rules: kaito-project/kaito api/v1beta1/workspace_validation.go and tuning_config_validation.go; section names:
presets/workspace/tuning/text-generation/cli.py (read 2026-11-24). KAITO's own sample for Phi-3 targets q_proj,
k_proj and v_proj, which Phi-3 does not have.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

from maas_client import catalog
from maas_client._messages import Argument, Text
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.platforms import yaml
from maas_client.platforms.spec import ExportSpec, Places

_DEFAULT_MACHINE = "Standard_NC24ads_A100_v4"
_IMAGE = re.compile(
    r"(?:[a-z0-9]+(?:[.-][a-z0-9]+)*(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


def build_files(spec: ExportSpec, places: Places) -> dict[str, str]:
    """Return ``workspace.yaml`` (ConfigMap and Workspace) and a README."""
    method = spec.check_method("KAITO", ("LoRA", "QLoRA"), "cluster, olive or the local server")
    if spec.validation_data:
        raise UnsupportedError(
            "KAITO does not support a validation file: it splits the training data",
            hint=Text.format("Leave the validation file out ({}).", Argument("validation", False)),
        )
    name = spec.slug
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-config"[:63]},
        "data": {
            "training_config.yaml": yaml.dump({"training_config": _training_config(spec, method)})
        },
    }
    workspace = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "resource": {
            "instanceType": _instance_type(spec),
            "labelSelector": {"matchLabels": {"app": name}},
        },
        "tuning": {
            "preset": {"name": _preset(spec)},
            "method": method.lower(),
            "config": config["metadata"]["name"],  # type: ignore[index]  # the dict above
            "input": _input(places),
            "output": _output(name, places),
        },
    }
    return {
        "workspace.yaml": yaml.dump_all(config, workspace),
        "README.md": _readme(name, spec.model, places),
    }


def _preset(spec: ExportSpec) -> str:
    model = spec.model_info.name if spec.model_info else spec.model
    for name, preset in catalog.load_kaito_presets().items():
        if preset.model == model:
            return name
    presets = ", ".join(sorted(catalog.load_kaito_presets()))
    raise UnsupportedError(
        f"KAITO has no tuning preset for {model}",
        hint=f"It has {presets}. For other models use cluster or olive.",
    )


def _instance_type(spec: ExportSpec) -> str:
    """Return the instance type, after a check that one node has the memory that the preset requires."""
    if len(spec.compute) > 1:
        raise UnsupportedError("KAITO fine-tunes on one node", hint="Name one instance type.")
    size = spec.compute[0] if spec.compute else _DEFAULT_MACHINE
    machine, preset = catalog.find_machine(size), catalog.load_kaito_presets()[_preset(spec)]
    if machine is not None and machine.gpus * machine.gpu_memory_gib < preset.tuning_gpu_memory_gib:
        raise UnsupportedError(
            f"{size} has {machine.gpus * machine.gpu_memory_gib:g} GiB of GPU memory; KAITO requires "
            f"{preset.tuning_gpu_memory_gib:g} to fine-tune {preset.model}",
            hint=f"{_DEFAULT_MACHINE} has enough.",
        )
    return size


_4BIT_CONFIG = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_use_double_quant": True,
}


def _training_config(spec: ExportSpec, method: str) -> dict[str, Any]:
    """Return the sections of the ConfigMap. KAITO refuses other sections, and 4-bit weights without QLoRA."""
    if spec.hyperparameters.max_seq_length is not None:
        raise UnsupportedError(
            Text.format("KAITO does not support {}", Argument("max_seq_length")),
            hint="Leave it out, or use cluster or olive.",
        )
    rank, _, dropout = spec.lora_settings
    model = {"torch_dtype": "bfloat16", "local_files_only": True, "device_map": "auto"}
    adapter = {
        "r": rank,
        "lora_alpha": spec.integer_alpha("KAITO"),
        "lora_dropout": dropout,
        "target_modules": spec.target_modules,
    }
    arguments = {
        "output_dir": "/mnt/results",
        "save_strategy": "epoch",
        "ddp_find_unused_parameters": False,
        **spec.training_arguments(),
        **spec.hyperparameters.extra,
    }
    data = {"dataset_extension": "json", "messages_column": "messages", "shuffle_dataset": True}
    return {
        "ModelConfig": model,
        **({"QuantizationConfig": _4BIT_CONFIG} if method == "QLoRA" else {}),
        "LoraConfig": adapter,
        "TrainingArguments": arguments,
        "DataCollator": {"mlm": False},
        "DatasetConfig": {**data, "train_test_split": 1},
    }


def _input(places: Places) -> dict[str, Any]:
    sources = [
        {"urls": [_public_url(places.input_url)]} if places.input_url else None,
        _volume_claim(places.input_pvc),
        {"image": _image_name(places.input_image)} if places.input_image else None,
    ]
    configured = [source for source in sources if source]
    if len(configured) != 1:
        raise ConfigError(
            "KAITO reads its data from exactly one place",
            hint=Text.format(
                "Pass one of {}, {} and {}.",
                *map(Argument, ("input_url", "input_pvc", "input_image")),
            ),
        )
    return configured[0]


def _output(name: str, places: Places) -> dict[str, Any]:
    image, claim = places.output_image, _volume_claim(places.output_pvc)
    if bool(image) == bool(claim):
        raise ConfigError(
            "KAITO writes the adapter to exactly one place",
            hint=Text.format(
                "Pass one of {} and {}.", Argument("output_image"), Argument("output_pvc")
            ),
        )
    if claim:
        return claim
    return {"image": _image_name(str(image)), "imagePushSecret": _push_secret(name, places)}


def _push_secret(name: str, places: Places) -> str:
    """Return the secret for pushing the image, which KAITO requires; the README says how to create it."""
    return places.push_secret or f"{name}-push"[:63]


def _volume_claim(name: str | None) -> dict[str, Any] | None:
    return {"volumeSource": {"persistentVolumeClaim": {"claimName": name}}} if name else None


def _image_name(text: str) -> str:
    if not _IMAGE.fullmatch(text):
        raise ConfigError(
            f"{text!r} is not an image name", hint="Write it as registry.azurecr.io/name:tag."
        )
    return text


def _public_url(url: str) -> str:
    """Return an address after a check that it is public, as KAITO requires."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_local = host == "localhost" or host.endswith(".localhost") or not _is_public_ip(host)
    if parts.scheme not in ("http", "https") or not host or is_local:
        raise ConfigError(
            f"KAITO does not download from {parts.scheme}://{host}"
            if host
            else f"{url!r} is not a URL",
            hint=Text.format(
                "Pass a public http(s) address, or use {} or {}.",
                Argument("input_pvc"),
                Argument("input_image"),
            ),
        )
    return url


def _is_public_ip(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return not (address.is_private or address.is_loopback or address.is_link_local)


def _readme(name: str, model: str, places: Places) -> str:
    secret = ""
    if places.output_image:
        fetch = (
            f"docker create --name adapter {places.output_image} x\n"
            "docker cp adapter:/data ./adapter && docker rm adapter"
        )
        secret = (
            f"kubectl create secret docker-registry {_push_secret(name, places)} \\\n"
            "    --docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD\n"
        )
    else:
        fetch = f"kubectl cp POD-THAT-MOUNTS-{places.output_pvc}:/mnt/results ./adapter"
    return f"""# {name} on KAITO

The training file (JSON Lines with `messages`) must be the only data file at the place it is read from.

```sh
{secret}kubectl apply -f workspace.yaml          # on your own nodes: remove instanceType first
kubectl get workspace {name} -w          # until WorkspaceSucceeded
```

Copy the adapter to this machine and import it:

```sh
{fetch}
maas-client models import ./adapter --base {model}
```

These files were checked against the rules of KAITO's admission webhook, not on a cluster.
"""
