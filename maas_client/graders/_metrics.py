"""How similar two texts are, by the metrics of ``text_similarity``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from maas_client.errors import MissingExtraError

REFUSED_METRICS = {
    "cosine": "it compares embeddings, and Azure offers it for evaluations only",
    "meteor": "it needs the corpus WordNet",
}


def find_metric(name: str) -> Callable[[str, str], float]:
    """Return the function of a metric: input and reference to a number from 0 to 1."""
    try:
        if name == "fuzzy_match":
            fuzz: Any = import_module("rapidfuzz.fuzz")
            process: Any = import_module("rapidfuzz.utils").default_process
            return lambda text, reference: float(
                fuzz.WRatio(text, reference, processor=process) / 100
            )
        if name == "bleu":
            bleu: Any = import_module("nltk.translate.bleu_score")
            smooth = bleu.SmoothingFunction().method1
            return lambda text, reference: float(
                bleu.sentence_bleu([reference.split()], text.split(), smoothing_function=smooth)
            )
        if name == "gleu":
            gleu: Any = import_module("nltk.translate.gleu_score")
            return lambda text, reference: float(
                gleu.sentence_gleu([reference.split()], text.split())
            )
        rouge: Any = import_module("rouge_score.rouge_scorer")
        kind = "rougeL" if name == "rouge_l" else f"rouge{name[-1]}"
        scorer = rouge.RougeScorer([kind])
        return lambda text, reference: float(scorer.score(reference, text)[kind].fmeasure)
    except ImportError:
        raise MissingExtraError(
            f"the metric {name} needs a package that is not installed",
            extra="graders",
            hint="Install it with: pip install 'maas-client[graders]'.",
        ) from None
