"""Texts with marked turns, as chat templates write them, as messages."""

from __future__ import annotations

import re

from maas_client.dataset.formats.fields import Row

_ROLES = {
    **dict.fromkeys(("human", "user", "prompter", "instruction", "inst"), "user"),
    **dict.fromkeys(
        ("assistant", "response", "gpt", "bot", "chatbot", "model", "ai", "/inst"), "assistant"
    ),
    "system": "system",
    "input": "input",
}
_MARKS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"<\|im_start\|>\s*(system|user|assistant)(?:\s*?\n|<\|im_sep\|>)",
        r"<\|(system|user|assistant)\|>",
        r"<\|start_header_id\|>(system|user|assistant)<\|end_header_id\|>",
        r"<start_of_turn>(user|model)\s*?\n",
        r"<｜(User|Assistant)｜>",
        r"<\|START_OF_TURN_TOKEN\|><\|(SYSTEM|USER|CHATBOT)_TOKEN\|>",
        r"\[(/?INST)\]",
        r"<extra_id_[01]>\s*(System|User|Assistant)\s*?\n",
        r"\[\|(Human|User|AI|Assistant)\|\]",
        r"(?:^|(?<=\n))[ \t]*<(human|user|bot|assistant)>[ \t]*:",
        r"#{3}[ \t]*(Human|Assistant)[ \t]*:",
        r"(?:^|(?<=\n))[ \t]*#{2,3}[ \t]*(System|Human|User|Instruction|Input|Assistant|Response)[ \t]*:",
        r"(?-i:(?:(?:^|(?<=[\n>])|(?<=[.?!>] ))(?=USER)|(?<=\s)(?=ASSISTANT))(USER|ASSISTANT):)",
        r"(?:^|(?<=\n)|(?<=<s>))[ \t]*(Human|User|Prompter|Assistant|Bot)[ \t]*:",
    )
)
_END = re.compile(
    r"\s*(?:<\|im_end\|>|<\|end\|>|<\|eot_id\|>|<\|endoftext\|>|<\|end_of_text\|>|<end_of_turn>|<｜end▁of▁sentence｜>|<\|END_OF_TURN_TOKEN\|>|</s>(?:\s*<s>)?)\s*\Z"
)
_LLAMA_SYSTEM = re.compile(r"\s*<<SYS>>\s*(.*?)\s*<</SYS>>\s*", re.DOTALL)
_START = re.compile(
    r"\A\s*(?:<s>|<bos>|<BOS_TOKEN>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>)?\s*"
)


def parse_transcript(text: str) -> list[Row] | None:
    """Return the messages of a text with marked turns, or None for other texts.

    What stands before the first mark becomes the system message.
    """
    text = _START.sub("", text)
    for mark in _MARKS:
        matches = list(mark.finditer(text))
        roles = [_ROLES[match[1].lower()] for match in matches]
        if "user" in roles:
            return _split_llama_system(_join_turns(text, matches, roles))
    return None


def _join_turns(text: str, matches: list[re.Match[str]], roles: list[str]) -> list[Row]:
    messages: list[Row] = []
    if before := text[: matches[0].start()].strip():
        messages.append({"role": "system", "content": before})
    ends = [match.start() for match in matches[1:]] + [len(text)]
    for match, role, end in zip(matches, roles, ends, strict=True):
        content = _END.sub("", text[match.end() : end]).strip()
        if role == "input" and messages:
            messages[-1]["content"] = f"{messages[-1]['content']}\n\n{content}".strip()
        elif role == messages[-1]["role"] if messages else False:
            messages[-1]["content"] = f"{messages[-1]['content']}\n\n{content}"
        elif content:
            messages.append({"role": "user" if role == "input" else role, "content": content})
    return messages


def _split_llama_system(messages: list[Row]) -> list[Row]:
    """Return messages with the system text that Llama 2 has inside the first question."""
    first = messages[0] if messages else {}
    match = _LLAMA_SYSTEM.match(first.get("content", ""))
    if match is None or first["role"] != "user" or match.end() == len(first["content"]):
        return messages
    question = {"role": "user", "content": first["content"][match.end() :]}
    system = [{"role": "system", "content": match[1]}] if match[1] else []
    return [*system, question, *messages[1:]]
