"""``import maas_client`` loads no third-party module, and every public name can be imported."""

from __future__ import annotations

import inspect
import subprocess
import sys

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
    assert not loaded & {"torch", "transformers", "starlette", "uvicorn", "azure", "jsonschema"}


def test_validate_loads_no_torch_or_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    loaded = modules_loaded_by("import maas_client; maas_client.validate('nowhere.jsonl')")
    assert not loaded & {"torch", "transformers", "httpx", "azure", "rich", "click"}


@pytest.mark.parametrize("name", sorted(maas_client._MODULE_OF))
def test_every_public_name_is_importable(name: str) -> None:
    value = getattr(maas_client, name)
    if inspect.isclass(value) or inspect.isfunction(value):  # others are aliases of types
        assert value.__name__ == name


def test_all_lists_every_public_name() -> None:
    modules = {"errors", "local", "types", "__version__"}
    assert set(maas_client.__all__) == set(maas_client._MODULE_OF) | modules


def test_type_checking_imports_match_public_names() -> None:
    from pathlib import Path

    text = Path(maas_client.__file__).read_text("utf-8")
    imported = {
        line.split()[-1] for line in text.splitlines() if line.startswith("    from maas_client.")
    }
    assert imported == set(maas_client._MODULE_OF)


def test_misspelled_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Cleint"):
        maas_client.Cleint()


def test_dir_lists_public_names() -> None:
    assert {"Client", "validate", "MaasError"} <= set(dir(maas_client))
