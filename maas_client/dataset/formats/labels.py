"""Whether an answer is to be learned: weights, loss masks of other tools, and labels of answers."""

from __future__ import annotations

import re
from typing import Any

from maas_client.dataset.formats.fields import (
    PREFERENCE_NAMES,
    ConversionError,
    Row,
    normalize_key,
)


def _normalize_all(names: str) -> frozenset[str]:
    return frozenset(map(normalize_key, names.split()))


TRAINED_KEYS = _normalize_all(
    """
    loss train trainable training train_on_turn loss_weight loss_scale loss_mask train_mask learn learnable
    do_train is_train is_trained is_trainable should_train train_on train_on_message train_on_output
    calculate_loss compute_loss has_loss in_loss include_in_loss use_loss with_loss weight
    supervised is_supervised is_target
    """
)
"""Keys of a message with a value that is true or 1 if the message is trained on."""
MASKED_KEYS = _normalize_all(
    """
    mask masked is_masked no_loss ignore_loss skip_loss exclude_from_loss ignore ignored no_train
    do_not_train skip_training skip exclude excluded no_grad frozen is_context context_only
    """
)
"""Keys of a message with a value that is true if the message is not trained on."""
_MASK_WORDS = (
    "calculate|compute|detail|details|do|exclude|for|from|has|history|ignore|in|include|input|inputs|is|label|"
    "last|message|messages|no|not|of|on|only|output|outputs|per|previous|prompt|prompts|response|responses|"
    "sample|should|skip|step|steps|the|to|token|tokens|turn|turns|use|with|words?"
)
_MASK_KEY = re.compile(
    rf"(?:{_MASK_WORDS})*(?:loss|losses|mask|masks|masked|train|trained|training|trainable|learn|learned|"
    rf"learnable|weight|weights)(?:scale|{_MASK_WORDS}|loss|mask|masks|masked|weight|weights)*"
)
"""A normalized key that is made of words of loss masks, whatever tool it belongs to."""
_WEIGHTS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def is_row_weight(key: str) -> bool:
    """Return whether a key is the weight of a whole row."""
    return normalize_key(key) in ("weight", "lossweight", "sampleweight")


def is_mask_key(key: str) -> bool:
    """Return whether other tools mask a message, or messages of a row, with this key."""
    name = normalize_key(key)
    return name in MASKED_KEYS or name in TRAINED_KEYS or _MASK_KEY.fullmatch(name) is not None


def weight_for(key: str, value: Any) -> int | None:
    """Return the weight that says the same as another tool's mask; None if that is not certain.

    A ``mask`` of 0 or 1 is not certain: with some tools 1 masks the message, with others 0 does.
    """
    name = normalize_key(key)
    weight = _WEIGHTS.get(str(value).strip().casefold())
    if name in TRAINED_KEYS:
        return weight
    if weight is None or name not in MASKED_KEYS:
        return None
    is_word = str(value).strip().casefold() in ("true", "false")
    return 1 - weight if is_word or name != "mask" else None


def take_weight(message: Row, place: str = "a turn") -> int | None:
    """Remove the weight and the loss masks of other tools from a message, and return the weight.

    Returns:
        1 if the message is to be learned, 0 if not, None if the message does not say.

    Raises:
        ConversionError: A value is neither 0 nor 1, or two of them contradict each other.
    """
    weights = set()
    for key in [key for key in message if is_mask_key(key)]:
        value = message.pop(key)
        if value is not None:
            weight = weight_for(key, value)
            if weight is None:
                raise ConversionError(f"{key} of {place} is not clearly 0 or 1")
            weights.add(weight)
    if len(weights) > 1:
        raise ConversionError("a turn has a weight and a loss mask that contradict each other")
    return weights.pop() if weights else None


_LABEL_KEYS = _normalize_all(
    "label labels kto_tag is_chosen is_desirable desirable is_preferred thumbs_up liked is_liked upvoted"
)
"""Keys whose value says whether the answer is wanted."""
_VERDICT_KEYS = _normalize_all(
    """
    is_correct correct is_good is_helpful is_accepted accepted approved is_approved is_valid valid is_safe
    safe helpful feedback thumbs thumb vote reaction keep include included is_included selected is_selected
    use_for_training used_in_training
    """
)
"""Keys that are labels only where the value is wanted or unwanted: others may hold an answer or a person."""
_REMARK_KEYS = _normalize_all(
    """
    quality status annotation verdict judgement judgment evaluation assessment human_label user_label gold_label
    quality_label review_status outcome decision rating grade
    """
)
"""Keys that are labels only where the value is a word such as ``bad``."""
_DEFECT_KEYS = _normalize_all(
    """
    is_incorrect incorrect is_wrong is_bad is_harmful harmful is_toxic toxic is_unsafe unsafe thumbs_down
    disliked is_disliked downvoted is_rejected rejected flagged is_flagged deleted is_deleted is_spam spam
    nsfw is_nsfw hallucinated is_hallucinated hallucination is_hallucination has_hallucination
    """
)
"""Keys with a value that is true for an unwanted answer."""
_WANTED = frozenset(
    ("true", "1", "1.0", "good", "desirable", "chosen", "yes", "positive", "accepted", "preferred",
     "correct", "right", "up", "upvote", "thumbs_up", "thumbs-up", "like", "👍", "y", "approved",
     "wahr", "vrai", "verdadero", "verdadeiro", "vero", "waar")
)  # fmt: skip
_UNWANTED = frozenset(
    ("false", "0", "0.0", "-1", "bad", "undesirable", "rejected", "no", "negative", "incorrect", "wrong",
     "down", "downvote", "thumbs_down", "thumbs-down", "dislike", "unwanted", "unsafe", "harmful", "toxic",
     "👎", "n", "wrong_answer", "poor", "falsch", "faux", "falso", "onwaar")
)  # fmt: skip


def is_label_key(key: str) -> bool:
    """Return whether a key can say that an answer is wanted or unwanted."""
    return normalize_key(key) in _LABEL_KEYS | _VERDICT_KEYS | _DEFECT_KEYS


def is_remark_key(key: str) -> bool:
    """Return whether a key can say so in a word (``bad``), while its numbers have another meaning."""
    return normalize_key(key) in _REMARK_KEYS


def holds_unwanted(key: str) -> bool:
    """Return whether what stands under a key is unwanted: ``rejected``, ``bad``, ``is_harmful``.

    Digits (``0``) may be the number of a row.
    """
    names = _DEFECT_KEYS | {normalize_key(rejected) for _, rejected in PREFERENCE_NAMES}
    is_word = (
        key.strip().casefold().replace(" ", "_") in _UNWANTED and not key.strip()[-1].isdigit()
    )
    return is_word or normalize_key(key) in names


def is_wanted(key: str, value: Any) -> bool | None:
    """Return whether a label marks its answer as wanted; None if the key and the value are no label.

    Raises:
        ConversionError: The key is a label, and the value says neither.
    """
    name = normalize_key(key)
    label = str(value).strip().casefold().replace(" ", "_")
    if name in _LABEL_KEYS and label not in _UNWANTED | _WANTED:
        raise ConversionError(f"{key.strip()} does not say whether the answer is wanted")
    is_word = len(label) > 2 and not label[-1].isdigit() and label not in ("true", "false", "yes")
    if not is_label_key(key) and not (is_remark_key(key) and is_word):
        return None
    if name.startswith("quality") and label in ("low", "low_quality"):
        return False
    if label not in _UNWANTED | _WANTED:
        return None
    return (label in _UNWANTED) if name in _DEFECT_KEYS else (label in _WANTED)
