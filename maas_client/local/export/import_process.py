"""Import a folder of weights in a child process: ``python -m maas_client.local.export.import_process``.

Stdin is ``{"source", "target", "base"}`` (paths, and a base as in ``local/bases``); stdout is ``{"kind"}`` or
``{"error"}``. The check loads the weights, and the server process never imports torch.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Import the folder that stdin names, and print the result."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to stdout; send that to stderr
    request: dict[str, Any] = json.load(sys.stdin)
    print(json.dumps(_import(request)), file=output, flush=True)
    return 0


def _import(request: dict[str, Any]) -> dict[str, Any]:
    from maas_client.errors import MaasError
    from maas_client.local.bases import BaseWeights
    from maas_client.local.export.import_model import import_folder

    try:
        result = import_folder(
            Path(request["source"]), Path(request["target"]), BaseWeights(**request["base"])
        )
    except MaasError as error:
        return {"error": str(error).replace(request["source"], "the folder")}
    except OSError as error:
        return {"error": f"The files could not be copied: {error.strerror or error}"}
    return {"kind": result.kind}


if __name__ == "__main__":
    sys.exit(main())
