"""A process that imports one folder of weights: ``python -m maas_client.local.export.import_process``.

Stdin is ``{"source", "target", "base"}`` (paths, and a base as ``local/bases`` describes one); stdout is
``{"kind", "base"}`` or ``{"error"}``. Loading the weights is part of the check, and torch lives in
children only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Take the folder in and say what it was."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    order: dict[str, Any] = json.load(sys.stdin)
    print(json.dumps(_taken(order)), file=out, flush=True)
    return 0


def _taken(order: dict[str, Any]) -> dict[str, Any]:
    from maas_client.errors import MaasError
    from maas_client.local.bases import BaseWeights
    from maas_client.local.export.import_model import import_folder

    try:
        done = import_folder(
            Path(order["source"]), Path(order["target"]), BaseWeights(**order["base"])
        )
    except MaasError as error:
        return {"error": str(error).replace(order["source"], "the folder")}
    except OSError as error:
        return {"error": f"The files could not be copied: {error.strerror or error}"}
    return {"kind": done.kind}


if __name__ == "__main__":
    sys.exit(main())
