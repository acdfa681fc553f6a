"""Data files that are part of the package: JSON schemas and example data.

In a wheel they are inside the package (``_schemas/``, ``_examples/``); in a checkout and an editable install
they are next to it (``schemas/``, ``examples/``).
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def read_schema(name: str) -> str:
    """Return the text of one of the project's JSON schemas.

    Args:
        name: The file's name in ``schemas/``.

    Raises:
        FileNotFoundError: There is no such schema.
    """
    return _find(Path("_schemas") / name, Path("schemas") / name).read_text("utf-8")


def example_data_dir() -> Path:
    """Return the folder of the example data.

    Raises:
        FileNotFoundError: The installation has no example data.
    """
    return _find(Path("_examples", "data"), Path("examples", "data"))


def _find(in_wheel: Path, in_checkout: Path) -> Path:
    for path in (PACKAGE / in_wheel, PACKAGE.parent / in_checkout):
        if path.exists():
            return path
    raise FileNotFoundError(f"this installation of maas_client has no {in_checkout}")
