"""``import maas_client`` loads no third-party module, and every public name can be imported."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import maas_client


def modules_loaded_by(statement: str) -> set[str]:
    """Return the third-party modules that a statement loads in a fresh interpreter."""
    run_example = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", run_example], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_package_import_loads_no_third_party_module() -> None:
    assert modules_loaded_by("import maas_client") == {"maas_client"}


def test_errors_load_no_third_party_module() -> None:
    assert modules_loaded_by("from maas_client import ModelRetiredError") == {"maas_client"}


def test_client_loads_no_torch_server_or_azure() -> None:
    loaded = modules_loaded_by("from maas_client import Client; Client.local()")
    assert not loaded & {
        "torch",
        "transformers",
        "starlette",
        "uvicorn",
        "azure",
        "jsonschema",
        "opentelemetry",
    }


def test_validate_loads_no_torch_or_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    loaded = modules_loaded_by("import maas_client; maas_client.validate('nowhere.jsonl')")
    assert not loaded & {"torch", "transformers", "httpx", "azure", "rich", "click"}


def test_validate_command_loads_only_what_a_file_needs(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    path.write_text(f"{json.dumps({'messages': chat})}\n" * 12)
    code = (
        "import sys; from maas_client.cli import main\n"
        f"assert main(['validate', {str(path)!r}]) == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    unneeded = {"chat", "datasets", "deployments", "evaluation", "hyperparameters", "jobs"}
    assert not loaded & {f"maas_client.types.{name}" for name in unneeded}
    assert not loaded & {"statistics", "importlib.metadata", "pydantic.plugin._loader", "rich"}
    assert not loaded & {"csv", "gzip", "importlib.resources", "tempfile", "zipfile"}


def test_types_are_loaded_when_they_are_used() -> None:
    import maas_client.types

    assert set(maas_client.types.__all__) <= set(dir(maas_client.types))
    for name in maas_client.types.__all__:
        assert getattr(maas_client.types, name) is not None
    assert maas_client.types.report.Problem is maas_client.Problem
    with pytest.raises(AttributeError, match="Jobs"):
        maas_client.types.Jobs  # noqa: B018


@pytest.mark.parametrize("name", sorted(maas_client._MODULE_OF))
def test_every_public_name_is_importable(name: str) -> None:
    value = getattr(maas_client, name)
    if inspect.isclass(value) or inspect.isfunction(value):  # others are aliases of types
        assert value.__name__ == name


def test_all_lists_every_public_name() -> None:
    modules = {"errors", "graders", "local", "types", "__version__"}
    assert set(maas_client.__all__) == set(maas_client._MODULE_OF) | modules


def test_type_checking_imports_match_public_names() -> None:
    text = Path(maas_client.__file__).read_text("utf-8")
    imported = {
        line.split()[-1] for line in text.splitlines() if line.startswith("    from maas_client.")
    }
    assert imported == set(maas_client._MODULE_OF)


def test_misspelled_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Cleint"):
        maas_client.Cleint()


def test_dir_lists_public_names() -> None:
    names = {name for name in dir(maas_client) if not name.startswith("_")}
    assert names == {name for name in maas_client.__all__ if not name.startswith("_")}


WITHOUT_POSIX = """
import asyncio, concurrent.futures, multiprocessing, os, signal, socket, subprocess, sys, tempfile
# The standard library and other packages know their platform; what they need stays.
import httpx, pydantic, rich.console, msgspec, jsonschema, tenacity
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None  # an import raises ImportError
posix_only = {
    os: "fork getuid geteuid getpgid killpg setsid getloadavg sched_getaffinity sysconf O_NOFOLLOW O_DIRECTORY "
        "O_NONBLOCK mkfifo statvfs posix_fadvise pread fchmod chown nice",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGPIPE SIGSTOP SIGCONT SIGALRM SIGQUIT",
    socket: "AF_UNIX",
}
for module, names in posix_only.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
import importlib, pathlib
import maas_client as maas
for name in maas.__all__:
    getattr(maas, name)
root = pathlib.Path(maas.__file__).parent
for path in sorted(root.rglob("*.py")):
    name = ".".join(("maas_client", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
    if name.startswith("maas_client.local") or name.endswith("__main__"):
        continue  # the client's part
    importlib.import_module(name)
import maas_client.local.server, maas_client.local.worker, maas_client.local.embedded_server
from maas_client.cli import main
sys.exit(main(["validate", sys.argv[1]]))
"""


def test_client_and_server_import_without_posix_modules(tmp_path: Path) -> None:
    """As on Windows: no fcntl, resource and pwd, and fewer names in os, signal and socket."""
    path = tmp_path / "train.jsonl"
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    path.write_text(f"{json.dumps({'messages': chat})}\n" * 12)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_POSIX, str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
