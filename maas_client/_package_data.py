"""Files that travel with the package: the schemas and the example data.

A wheel holds them inside the package (``_schemas/``, ``_examples/``); in a checkout, and in an editable
install, they lie beside it.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def read_schema(name: str) -> str:
    """Return one of the project's JSON Schemas. Raises ``FileNotFoundError``."""
    return _place(Path("_schemas") / name, Path("schemas") / name).read_text("utf-8")


def example_data_dir() -> Path:
    """Return the folder of the example data. Raises ``FileNotFoundError``."""
    return _place(Path("_examples", "data"), Path("examples", "data"))


def _place(packed: Path, beside: Path) -> Path:
    for place in (PACKAGE / packed, PACKAGE.parent / beside):
        if place.exists():
            return place
    raise FileNotFoundError(f"{beside} is neither in the package nor beside it")
