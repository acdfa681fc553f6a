"""One issue of a row or a file, before it becomes a ``Problem`` with a place, a severity and a message."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import NamedTuple

KeyPath = tuple[str | int, ...]
"""Keys and indices that lead to a value within a JSON value."""
_MAX_QUOTED_CHARS = 24


class Issue(NamedTuple):
    """What a rule or a scanner found. ``detail`` never contains a secret or the text of a row."""

    code: str
    path: KeyPath = ()
    """Keys and indices that lead to the value within the row; empty for the row or the file."""
    detail: str = ""
    """What differs from case to case; printed after the code's own message."""
    in_key: bool = False
    """True: the issue is in the member's key, not in its value."""
    char_offset: int | None = None
    """Characters into the string at ``path``; None where the issue is the value as a whole."""
    line: int = 0
    """Line number from 1; 0 for the file as a whole, and where the caller knows the line."""
    hint: str = ""
    """What to do in this case, where it is more exact than the code's own hint."""


def quote_if_safe(word: object) -> str:
    """Return a role, a key or a part's type in quotes if it is a word of a data format, else nothing.

    Reports are shared and logged, so they must not repeat the text of a row: where rows are broken, a name or
    a sentence stands where a role or a key belongs.
    """
    return f"'{word}'" if isinstance(word, str) and is_format_word(word) else ""


@lru_cache(maxsize=1024)
def is_format_word(word: str) -> bool:
    """Return whether a word is one of a data format, or one of them with a typing error."""
    if not 0 < len(word) <= _MAX_QUOTED_CHARS or not word.isascii() or not word.isprintable():
        return False
    normalized = word.strip().lower()
    if normalized in _FORMAT_WORDS or normalized in _SPEAKERS:
        return True
    similar = [each for each in _LONG_WORDS if each[0] == normalized[:1]]
    return normalized.replace("_", "").isalpha() and bool(
        difflib.get_close_matches(normalized, similar, n=1, cutoff=0.8)
    )


_FORMAT_WORDS_TEXT = """
admin agent ai chosen_score non_preferred_output preferred_output rejected_score score_chosen
score_rejected annotations answer answers argument arguments assistant attachments audio author bot
cache_control category channel chatbot chatgpt choices chosen citations class claude completion
confidence content contents context conversation conversations created created_at custom_id customer
data date description developer dialog dialogue difficulty end_turn environment explanation extra
file file_data filedata files finish_reason flagged format from function function_call
function_response functionresponse functions generated_by gpt human id image image_url images index
inline_data inlinedata input input_audio input_text instruction instructions instructor ipython
is_correct is_error key label labels lang language length license llm loss loss_mask loss_weight
mask masked messages meta metadata method model model_name moderator mood name narrator notes
observation original output output_text parallel_tool_calls parent_id parts path phi preference
prompt prompter quality question rank rating reasoning reasoning_content recipient refusal rejected
response response_format role row row_id row_idx sample score seed session_id source speaker split
status support system system_instruction system_prompt systeminstruction tag tags task task_id text
thinking thought thought_signature time timestamp title to token_count tokens tool tool_call
tool_call_id tool_calls tool_choice tool_response tools topic train train_on_turn training turn type
url user uuid value version video weight weights
"""
_FORMAT_WORDS = frozenset(_FORMAT_WORDS_TEXT.split())
"""Roles, keys and part types of the formats that data sets come in."""
_SPEAKERS_TEXT = """
advisor apprentice caller character client coach critic doctor employee end_user expert gemini guest host
interviewee interviewer lawyer llama manager me mentor mistral npc nurse operator participant patient person
player qwen representative seeker seller speaker_1 speaker_2 speaker_a speaker_b speaker1 speaker2 student
supporter teacher therapist tutor user1 user2 user_1 user_2 virtual_assistant visitor wizard
"""
_SPEAKERS = frozenset(_SPEAKERS_TEXT.split())
"""Names of speakers. No typing errors of these: names of people are close to some."""
_LONG_WORDS = ("role", "text", "type", *(word for word in sorted(_FORMAT_WORDS) if len(word) > 4))
"""Of these, a word with a typing error is recognised. Names of people are close to others: Lange to lang."""


def json_type(value: object) -> str:
    """Return the name of a value's JSON type, with its article."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "an array" if isinstance(value, list) else "an object")
