"""``import maas_client`` is light, and every public name is found when it is asked for."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import maas_client


def loaded_by(statement: str) -> set[str]:
    """Return the modules of others that a statement loads in a fresh interpreter."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_else() -> None:
    assert loaded_by("import maas_client") == {"maas_client"}


def test_the_errors_load_nothing_else() -> None:
    assert loaded_by("from maas_client import ModelRetiredError") == {"maas_client"}


def test_the_client_loads_no_torch_no_server_and_no_azure() -> None:
    loaded = loaded_by("from maas_client import Client; Client.local()")
    assert not loaded & {"torch", "transformers", "starlette", "uvicorn", "azure", "jsonschema"}


def test_validating_loads_no_torch_and_no_network(tmp_path_factory: pytest.TempPathFactory) -> None:
    loaded = loaded_by("import maas_client; maas_client.validate('nowhere.jsonl')")
    assert not loaded & {"torch", "transformers", "httpx", "azure", "rich", "click"}


@pytest.mark.parametrize("name", sorted(maas_client._MODULE_OF))
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(maas_client, name)
    if inspect.isclass(value) or inspect.isfunction(value):  # others are aliases of types
        assert value.__name__ == name


def test_all_lists_every_public_name() -> None:
    modules = {"errors", "local", "types", "__version__"}
    assert set(maas_client.__all__) == set(maas_client._MODULE_OF) | modules


def test_what_type_checkers_see_is_what_there_is() -> None:
    from pathlib import Path

    text = Path(maas_client.__file__).read_text("utf-8")
    seen = {
        line.split()[-1] for line in text.splitlines() if line.startswith("    from maas_client.")
    }
    assert seen == set(maas_client._MODULE_OF)


def test_a_typo_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Cleint"):
        maas_client.Cleint()


def test_names_can_be_listed() -> None:
    assert {"Client", "validate", "MaasError"} <= set(dir(maas_client))
