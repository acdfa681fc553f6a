"""Run onnxruntime-genai's model builder: ``python -m maas_client.local.export.onnx_builder``.

The builder (0.18) treats every linear layer with ``vocab_size`` outputs as the output layer
(``Model.has_lm_head``) and writes a wrong model if a fused layer is as wide as the vocabulary, as in ``tiny``.
This module patches the method. If a version lacks it, the builder runs unpatched, and the check after the
export detects a wrong model.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from typing import Any

_MODULES = ("onnxruntime_genai.models.builders.base", "builders.base")
"""Module names under which the builder may import the class; the package adds its own folder to the path."""


def main() -> int:
    """Patch and run the builder in this process."""
    for module_name in _MODULES:
        try:
            model: Any = importlib.import_module(module_name).Model
        except (ImportError, AttributeError):
            continue
        if hasattr(model, "has_lm_head"):
            model.has_lm_head = _patch(model.has_lm_head)
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)
    return 0


def _patch(original: Any) -> Any:
    def has_lm_head(self: Any, module: Any) -> bool:
        head = getattr(self.weights, "lm_head", None)
        return bool(original(self, module)) if head is None else module is head

    return has_lm_head


if __name__ == "__main__":
    sys.exit(main())
