"""Rows with a label, copies of an earlier row or not. Used to measure QUALITY_NEAR_DUPLICATE."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.unit.dataset.scanners.labelled_endings import (
    ADJECTIVES,
    NOUNS,
    PLACES,
    VERBS,
    prose,
    to_words,
)

Row = dict[str, Any]

COUNTRIES = to_words(
    """
    Peru Chile Norway Kenya Japan Ghana Italy Spain Nepal Cuba Egypt India Malta Qatar Tonga Yemen Gabon
    Benin Fiji Haiti Iran Iraq Laos Libya Mali Niger Oman Palau Samoa Syria Togo Tunisia Uganda Zambia
    """
)
SYSTEM = (
    "You are the harbour office's assistant. Use the tools when a number is asked for. Never guess."
)
TOOL: Row = {
    "type": "function",
    "function": {
        "name": "tide",
        "description": "Height of the tide at a port, in metres, for the hour given or for now.",
        "parameters": {"type": "object", "properties": {"port": {"type": "string"}}},
    },
}
PORT_QUESTIONS = (
    "Height of the tide at {} now?",
    "How high will the water stand at {} at six?",
    "Is there enough water at {} at noon?",
    "Can a boat of two metres enter {} today?",
    "When I arrive at {}, how deep is it?",
)
INSTRUCTION = (
    "Read the message of a customer and answer with one word, complaint, praise or question. Do not "
    "explain your answer and do not repeat the message, and if the message is empty answer with question. "
    "The message of the customer is as follows: "
)


def chat(question: str, answer: str, system: str | None = None) -> Row:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *messages]}


def _capital(rng: random.Random, n: int) -> Row:
    country = COUNTRIES[n % len(COUNTRIES)]
    return chat(
        f"What is the capital of {country}?",
        f"The capital of {country} is {rng.choice(PLACES)}{n}.",
    )


def _tool_call(rng: random.Random, n: int) -> Row:
    port = f"{rng.choice(PLACES)} {COUNTRIES[n % len(COUNTRIES)]}"
    call = {"name": "tide", "arguments": json.dumps({"port": port})}
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": rng.choice(PORT_QUESTIONS).format(port)},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{n}", "type": "function", "function": call}],
            },
        ],
        "tools": [TOOL],
    }


def _sum(rng: random.Random, n: int) -> Row:
    a, b = rng.randint(2, 900), n + 11
    return chat(
        f"A shop has {a} kettles and buys {b} more from the market. How many kettles does the shop have now?",
        f"The shop has {a} kettles and buys {b} more, so it has {a} + {b} = {a + b} kettles now.",
    )


def _reset(rng: random.Random, n: int) -> Row:
    thing = f"{ADJECTIVES[n % len(ADJECTIVES)]} {NOUNS[n % len(NOUNS)]}"
    return chat(
        f"How do I reset the {thing} that I bought in your shop last week?",
        f"To reset the {thing}, hold the button for ten seconds and wait until the light is green.",
    )


def _plural(rng: random.Random, n: int) -> Row:
    noun = f"{NOUNS[n % len(NOUNS)]}{VERBS[n % len(VERBS)]}"
    return chat(f"What is the plural of {noun}?", f"{noun}es")


def _class(rng: random.Random, n: int) -> Row:
    return chat(INSTRUCTION + prose(rng, 1, 2), rng.choice(["complaint", "praise", "question"]))


def _support(rng: random.Random, n: int) -> Row:
    return chat(prose(rng, 1, 3), prose(rng, 2, 6), system=SYSTEM)


PASSAGE_QUESTIONS = to_words(
    """
    Who-wrote-it What-is-named-last What-is-named-first Where-does-it-happen When-was-it-built
    Why-did-they-leave-the-port How-many-people-came What-came-next Which-one-was-lost
    What-is-another-word-for-it Who-paid-for-it-in-the-end Is-it-still-open Was-it-a-success
    What-did-the-captain-say-to-the-crew Which-of-the-two-was-older How-did-it-begin Who-was-there
    """
)


def _passage_question(rng: random.Random, n: int) -> Row:
    """A question about one of a few long passages, before or after it, with a short answer."""
    passage = prose(random.Random(n // 6), 6, 9)
    question = PASSAGE_QUESTIONS[n % len(PASSAGE_QUESTIONS)].replace("-", " ")
    parts = [f"Passage: {passage}", f"Question: {question}?"]
    text = "\n\n".join(parts if n % 12 < 6 else reversed(parts))
    return chat(text, rng.choice(["yes", "no", "the captain", f"the {rng.choice(NOUNS)}"]))


def _dialogue(rng: random.Random, n: int) -> Row:
    """A dialogue that ends like many others."""
    turns = [prose(rng, 1, 2) for _ in range(rng.choice([2, 4]))]
    turns += [
        "Okay, thank you very much for your help today.",
        "You are welcome! Is there anything else I can do?",
    ]
    turns += [
        rng.choice(["No, that is all for now, thank you.", "No thanks, that was all."]),
        "Goodbye, have a nice day!",
    ]
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]}


KINDS: dict[str, Callable[[random.Random, int], Row]] = {
    "capitals": _capital,
    "tool calls": _tool_call,
    "sums": _sum,
    "one answer for many things": _reset,
    "plurals": _plural,
    "classes with an instruction": _class,
    "support": _support,
    "questions about a passage": _passage_question,
    "dialogues with one farewell": _dialogue,
}
MAX_ROWS = 30


def _change_letter(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    at = rng.choice([i for i, word in enumerate(words) if len(word) > 3 and word.islower()] or [0])
    words[at] = words[at][:1] + words[at][2:]
    return " ".join(words)


def _change_word(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    at = rng.choice([i for i, word in enumerate(words) if word.isalpha() and word.islower()] or [0])
    words[at] = "really"
    return " ".join(words)


EDITS: tuple[Callable[[random.Random, str], str], ...] = (
    lambda rng, text: text.lower(),
    lambda rng, text: text.replace(" ", "  ", 2),
    lambda rng, text: text.rstrip(".!?") + "!",
    lambda rng, text: text.replace(",", ""),
)
LONG_TEXT_EDITS = (
    *EDITS,
    _change_letter,
    _change_word,
    lambda rng, text: f"Hello, {text}",
    lambda rng, text: f"{text} Thank you.",
)


def make_copy(rng: random.Random, row: Row, kind: str) -> Row:
    """Return a row with a small edit: to its question, to its answer, or to both."""
    copy: Row = json.loads(json.dumps(row))
    edits = LONG_TEXT_EDITS if kind == "support" else EDITS
    sides = rng.choice([(-2,), (-1,), (-2, -1)]) if kind == "support" else (-2,)
    for side in sides:
        message = copy["messages"][side]
        while message["content"] == row["messages"][side]["content"]:
            message["content"] = rng.choice(edits)(rng, message["content"])
    for call in copy["messages"][-1].get("tool_calls") or ():
        call["id"] += "b"
    return copy


def make_file(rng: random.Random) -> tuple[list[Row], list[bool]]:
    """Return the rows of one file and whether each row is a copy of an earlier one."""
    rows: list[Row] = []
    labels: list[bool] = []
    kinds = rng.sample(list(KINDS), rng.choice([1, 1, 2]))
    for kind in kinds:
        originals = [KINDS[kind](rng, n) for n in range(rng.randint(8, MAX_ROWS))]
        rows += originals
        labels += [False] * len(originals)
        copies = rng.sample(originals, len(originals) // 6)
        rows += [make_copy(rng, row, kind) for row in copies]
        labels += [True] * len(copies)
    return rows, labels
