"""Answers with a label, whole or cut off, made from a grammar. Used to measure QUALITY_CUT_OFF."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def to_words(text: str) -> list[str]:
    return text.split()


NOUNS = to_words(
    """
    order parcel invoice refund kettle printer window ticket station museum garden teacher river
    bridge engine recipe battery password account camera doctor village market letter kitchen
    season painter library harbour ladder blanket festival forest island journey language
    machine neighbour orchestra
    """
)
VERBS = to_words(
    """
    checks repairs replaces opens closes moves paints describes delivers returns measures
    follows explains finds keeps cleans carries prepares visits supports watches improves
    protects finishes
    """
)
ADJECTIVES = to_words(
    """
    small green broken quiet early useful heavy famous simple careful modern bright narrow
    gentle wooden common recent strange clever empty fresh distant
    """
)
PLACES = to_words("Oslo Lima Ghent Porto Riga Turin Bergen Cork Malmö Leeds")
TEMPLATES: tuple[Callable[[Callable[[list[str]], str]], str], ...] = (
    lambda w: f"The {w(ADJECTIVES)} {w(NOUNS)} {w(VERBS)} the {w(NOUNS)} in {w(PLACES)}.",
    lambda w: (
        f"In most cases a {w(NOUNS)} {w(VERBS)} the {w(ADJECTIVES)} {w(NOUNS)} before the {w(NOUNS)}."
    ),
    lambda w: f"You can look for the {w(NOUNS)} when the {w(NOUNS)} is {w(ADJECTIVES)}.",
    lambda w: (
        f"If your {w(NOUNS)} is {w(ADJECTIVES)}, the {w(NOUNS)} {w(VERBS)} it on the same day."
    ),
    lambda w: (
        f"This is because every {w(NOUNS)} of the {w(NOUNS)} was {w(ADJECTIVES)} at that time."
    ),
    lambda w: f"First open the {w(NOUNS)}, then put the {w(NOUNS)} back into the {w(NOUNS)}.",
    lambda w: (
        f"There are two reasons: the {w(NOUNS)} is {w(ADJECTIVES)} and it {w(VERBS)} the {w(NOUNS)}."
    ),
    lambda w: f"We were told that {w(PLACES)} has a {w(ADJECTIVES)} {w(NOUNS)} with a {w(NOUNS)}.",
    lambda w: f"Please write to us as soon as the {w(NOUNS)} {w(VERBS)} your {w(NOUNS)}!",
    lambda w: (
        f"It depends on the {w(NOUNS)} you have, and on how {w(ADJECTIVES)} the {w(NOUNS)} is."
    ),
    lambda w: f"That is what the {w(NOUNS)} is for.",
    lambda w: f"Does the {w(NOUNS)} look {w(ADJECTIVES)}?",
)
WHOLE_ENDINGS: tuple[str, ...] = (
    " The answer is C", " The answer is b", " So the correct option is a", " Answer: {place}",
    " The temperature is 98.9°C", " The area is $12\\pi$", " That makes 42 km", " Total: 17",
    " so x = y + z", " The result is H2O", " I would learn C++", " #### 42", "\n#### {n}",
    " Write to help@example.org", " See https://example.org/docs/", " Have a great day",
    " Thanks for writing to us and have a lovely weekend", " Kind regards from the whole team",
    "\n\nBest regards,\nPip", "\n\nKind regards,", "\n\nYours sincerely,\nThe harbour office",
    "\n\nMit freundlichen Grüßen\nAnna", "\n\nBien cordialement", " Hope that helps", " Good luck",
    "\n\nWarm wishes from all of us at the shop,", " Fair skies, Pip", " Cheers", " See you soon in {place}",
    "\n\nSELECT name FROM users WHERE age > 30 ORDER BY name",
    "\n\nselect name, age\nfrom users\nwhere active is true\norder by name desc",
    "\n\nSELECT id FROM orders;", "\n\nINSERT INTO users (name) VALUES ('Ann');",
    "\n\nfor x in rows:\n    print x",
    "\n\ngit push origin main", "\n\npip install some package name here", "\n\nreturn a + b;",
    "\n\n- a {noun}\n- a {noun} and a {noun}", "\n\n1. the {noun}\n2. the {adjective} {noun} of the year",
    "\n\n# Notes on the {noun}", "\n\n| {noun} | {noun} |", " 🙂", " (see {place})", " “{noun}”",
    " Yes, it is", " That is where the {noun} comes from", " I do not know what it is made of",
    " Tell me which {noun} you are looking for", " I am not sure who they are",
    " The path is /etc/nginx/", " It was built by {place} & Co", "\n\nTitle: The {noun} and the {noun}",
)  # fmt: skip


def sentence(rng: random.Random) -> str:
    """Return one sentence."""
    return rng.choice(TEMPLATES)(rng.choice)


def prose(rng: random.Random, low: int = 2, high: int = 6) -> str:
    """Return some sentences."""
    return " ".join(sentence(rng) for _ in range(rng.randint(low, high)))


def with_whole_ending(rng: random.Random) -> str:
    """Return a whole answer that ends without a full stop."""
    ending = rng.choice(WHOLE_ENDINGS)
    for name, words in (("{place}", PLACES), ("{noun}", NOUNS), ("{adjective}", ADJECTIVES)):
        while name in ending:
            ending = ending.replace(name, rng.choice(words), 1)
    return prose(rng) + ending.replace("{n}", str(rng.randint(2, 900)))


def cut(rng: random.Random) -> str:
    """Return an answer that a token limit cut off: inside a word, after a word, or in a code block."""
    text = prose(rng, 3, 7)
    kind = rng.random()
    if kind < 0.1:
        return f"{text}\n\n```python\ndef total(rows):\n    return sum(row for row in"
    while True:
        shorter = text[: rng.randint(len(text) // 2, len(text) - 2)]
        if kind < 0.55:
            shorter = shorter[: shorter.rindex(" ")]
        if shorter.rstrip()[-1] not in ".!?":
            return shorter.rstrip()


def informal(rng: random.Random) -> str:
    """Return a whole answer as people write it in a chat, without a full stop."""
    return sentence(rng).rstrip(".!?").lower()


def make_file(rng: random.Random, rows: int) -> tuple[list[Row], list[bool]]:
    """Return the rows of one file and whether each answer is cut off. Files differ in their habits."""
    style = rng.choice(["tidy", "tidy", "mixed", "mixed", "results", "informal", "cut"])
    whole_share = {"tidy": 0.02, "mixed": 0.15, "results": 0.95, "informal": 0.1, "cut": 0.05}[
        style
    ]
    cut_share = {"tidy": 0.03, "mixed": 0.03, "results": 0.0, "informal": 0.0, "cut": 0.12}[style]
    rows_made, labels = [], []
    for _ in range(rows):
        draw = rng.random()
        is_cut = draw < cut_share
        if is_cut:
            answer = cut(rng)
        elif draw < cut_share + whole_share:
            answer = with_whole_ending(rng)
        else:
            answer = informal(rng) if style == "informal" else prose(rng)
            if style == "mixed" and rng.random() < 0.01:
                answer = answer.rstrip(".!?")  # a full stop that was forgotten
        question = f"What about the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}?"
        rows_made.append(
            {
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                ]
            }
        )
        labels.append(is_cut)
    return rows_made, labels
