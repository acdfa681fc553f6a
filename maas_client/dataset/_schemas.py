"""Where the law lies: ``schemas/`` in a checkout or an editable install, ``_schemas/`` in a wheel."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

CHAT_LINE = "chat_line.schema.json"
REPORT = "report.schema.json"


@lru_cache(maxsize=8)
def schema(name: str = CHAT_LINE) -> dict[str, Any]:
    """Return one of the project's schemas, parsed. Raises ``FileNotFoundError``."""
    package = files("maas_client")
    for place in (package.joinpath("_schemas", name), Path(str(package)).parent / "schemas" / name):
        if place.is_file():
            found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            return found
    raise FileNotFoundError(f"the schema {name} is in neither maas_client/_schemas nor schemas")
