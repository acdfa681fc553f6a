"""Chat rows for tests of training."""

from __future__ import annotations

import random
from typing import Any


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of different lengths, some with several turns, some answers with weight 0."""
    rng = random.Random(seed)
    words = ["aye", "bee", "sea", "dee", "eel", "sun", "moon", "rain", "Köln", "🦆", "12", "<b>"]

    def text(max_words: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(1, max_words)))

    rows = []
    for index in range(count):
        messages: list[dict[str, Any]] = []
        if index % 3 == 0:
            messages.append({"role": "system", "content": text(6)})
        for turn in range(1 + index % 2):
            messages.append({"role": "user", "content": text(12)})
            answer = {"role": "assistant", "content": text(15)}
            messages.append(answer | ({"weight": 0} if turn == 0 and index % 4 == 1 else {}))
        rows.append({"messages": messages})
    return rows


def make_preferences(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Preference rows of different lengths, some with earlier answers, some with longer losing answers."""
    rng = random.Random(seed)
    rows = []
    for index, row in enumerate(make_rows(count, seed)):
        messages = row["messages"][:-1]
        preferred, other = (
            [{"role": "assistant", "content": f"{word} {' '.join(rng.choices('abcde', k=length))}"}]
            for word, length in (("yes", 1 + index % 5), ("no", 1 + index % 7))
        )
        rows.append(
            {
                "input": {"messages": messages},
                "preferred_output": preferred,
                "non_preferred_output": other,
            }
        )
    return rows
