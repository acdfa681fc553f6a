"""onnxruntime-genai's builder, with its arguments: ``python -m maas_client.local.export.onnx_builder``.

The builder takes every linear layer with ``vocab_size`` outputs for the head (``InferenceModel.has_lm_head``,
0.18), and writes a wrong model where a fused layer is as wide as the vocabulary, as in ``tiny``. It is
told here which one is the head; without such a method it runs as it is, and the check that follows an
export finds a wrong model.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from typing import Any

_HOMES = ("onnxruntime_genai.models.builders.base", "builders.base")
"""The class by the names under which the builder may import it; the package puts its own folder on
the path."""


def main() -> int:
    """Run the builder in this process."""
    for home in _HOMES:
        try:
            model: Any = importlib.import_module(home).Model
        except (ImportError, AttributeError):
            continue
        if hasattr(model, "has_lm_head"):
            model.has_lm_head = _with_head(model.has_lm_head)
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)
    return 0


def _with_head(guess: Any) -> Any:
    def has_lm_head(self: Any, module: Any) -> bool:
        head = getattr(self.weights, "lm_head", None)
        return bool(guess(self, module)) if head is None else module is head

    return has_lm_head


if __name__ == "__main__":
    sys.exit(main())
