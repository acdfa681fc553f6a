"""Rendering is the model's own template, byte for byte, with exactly the answers marked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_client.chat import (
    TEMPLATES,
    Segment,
    find_mismatches,
    get_template,
    render,
    render_prompt,
)
from maas_client.errors import DatasetError, UnsupportedError
from tests.shared_data import shared_file

jinja2 = pytest.importorskip("jinja2.sandbox")

# The originals: `chat_template` of each model's tokenizer_config.json on the hub.
_ANSWER_IN_USER_TURN = (
    "{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + "
    "message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == "
    "'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}"
)
_LINED = (
    "{{% for message in messages %}}{{% if message['role'] == 'system'{also} %}}{{{{'<|system|>\n' "
    "+ message['content'] + '<|end|>\n'}}}}{{% elif message['role'] == 'user' %}}{{{{'<|user|>\n' "
    "+ message['content'] + '<|end|>\n'}}}}{{% elif message['role'] == 'assistant' %}}"
    "{{{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}}}{{% endif %}}{{% endfor %}}"
    "{{% if add_generation_prompt %}}{{{{ '<|assistant|>\n' }}}}{{% else %}}{{{{ eos_token }}}}"
    "{{% endif %}}"
)
_PHI4_MINI = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
    "message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + "
    "'<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + message['role'] "
    "+ '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt "
    "%}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
_PHI4 = "{% for message in messages %}" + "".join(
    f"{{% {word} (message['role'] == '{role}') %}}{{{{'<|im_start|>{role}<|im_sep|>' + "
    "message['content'] + '<|im_end|>'}}"
    for word, role in (("if", "system"), ("elif", "user"), ("elif", "assistant"))
)
REFERENCES = {  # name: (chat_template, bos_token, eos_token)
    "phi3": (_LINED.format(also=""), "<s>", "<|endoftext|>"),
    "phi3-2024-04": ("{{ bos_token }}" + _ANSWER_IN_USER_TURN, "<s>", "<|endoftext|>"),
    "phi3-medium": (_ANSWER_IN_USER_TURN, "<s>", "<|endoftext|>"),
    "phi3-small": (
        (
            "{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + "
            "message['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
        ),
        "<|endoftext|>",
        "<|endoftext|>",
    ),
    "phi3.5": (_LINED.format(also=" and message['content']"), "<s>", "<|endoftext|>"),
    "phi4": (
        _PHI4 + "{% endif %}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
        "<|endoftext|>",
        "<|im_end|>",
    ),
    "phi4-mini": (_PHI4_MINI, "<|endoftext|>", "<|endoftext|>"),
    "phi4-multimodal": (_PHI4_MINI, "<|endoftext|>", "<|endoftext|>"),
    "smollm2": (
        (
            "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
            "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
            "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|im_start|>assistant\n' }}{% endif %}"
        ),
        "<|im_start|>",
        "<|im_end|>",
    ),
    "chatml": (
        (
            "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
            "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|im_start|>assistant\n' }}{% endif %}"
        ),
        "<|im_start|>",
        "<|im_end|>",
    ),
}


def render_reference(name: str, messages: list[dict[str, str]], *, answer_wanted: bool) -> str:
    source, bos, eos = REFERENCES[name]
    # transformers compiles every chat template in exactly this environment
    environment = jinja2.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(
        messages=messages, bos_token=bos, eos_token=eos, add_generation_prompt=answer_wanted
    )


def text_of(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def loss_text(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments if segment.in_loss)


def test_every_template_has_a_reference() -> None:
    assert set(REFERENCES) == set(TEMPLATES)


_roles = st.sampled_from(["user", "assistant"])
_content = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", " ", "\n", "a\n", "<|end|>", "{{ x }}", "Grüße 🦆"]
)
_talk = st.lists(
    st.builds(lambda r, c: {"role": r, "content": c}, _roles, _content), min_size=1, max_size=5
)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@settings(max_examples=60, deadline=None)
@given(messages=_talk, system=st.none() | _content)
def test_text_matches_the_reference_template(
    name: str, messages: list[dict[str, str]], system: str | None
) -> None:
    template = TEMPLATES[name]
    if system is not None and template.system_handling != "merged":
        messages = [{"role": "system", "content": system}, *messages]
    assert text_of(render(messages, None, template)) == render_reference(
        name, messages, answer_wanted=False
    )
    assert render_prompt(messages, None, template) == render_reference(
        name, messages, answer_wanted=True
    )


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_answers_and_end_of_turn_are_in_the_loss(name: str) -> None:
    template = TEMPLATES[name]
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "not this", "weight": 0},
        {"role": "user", "content": "V"},
        {"role": "assistant", "content": "this", "weight": 1},
        {"role": "user", "content": "W"},
        {"role": "assistant", "content": "and this"},
    ]
    end = template.end_of_turn
    assert loss_text(render(messages, None, template)) == f"this{end}and this{end}"


@pytest.mark.parametrize("name", ["phi3-medium", "phi3-2024-04"])
def test_system_message_is_merged_into_the_first_user_message(name: str) -> None:
    template = TEMPLATES[name]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
    ]
    merged = [{"role": "user", "content": "Be brief.\n\nHi"}, messages[2]]
    assert text_of(render(messages, None, template)) == render_reference(
        name, merged, answer_wanted=False
    )
    (mismatch,) = find_mismatches(messages, None, template)
    assert (mismatch.pointer, mismatch.is_merged) == ("/messages/0/role", True)


def test_late_system_message_is_refused_without_system_role() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Yo"},
    ]
    with pytest.raises(DatasetError, match="/messages/1/role"):
        render(messages, None, TEMPLATES["phi3-medium"])


@pytest.mark.parametrize("name", ["phi3", "phi3-medium", "phi3-small", "phi3.5", "phi4"])
def test_unsupported_roles_and_tools_are_refused(name: str) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "3"},
    ]
    pointers = [
        mismatch.pointer
        for mismatch in find_mismatches(messages, [{"function": {}}], TEMPLATES[name])
    ]
    assert pointers == ["/tools", "/messages/1/tool_calls", "/messages/2/role"]
    with pytest.raises(DatasetError, match="does not support tools"):
        render(messages, [{"function": {}}], TEMPLATES[name])
    with pytest.raises(DatasetError, match="'developer'"):
        render([{"role": "developer", "content": "x"}], None, TEMPLATES[name])


TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Wetter für", "parameters": {}},
    }
]
CALLS = [{"id": "1", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}]


@pytest.mark.parametrize("system", [None, "Help."])
def test_phi4_mini_tools_match_the_reference_template(system: str | None) -> None:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [
        {"role": "user", "content": "Köln?"},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "1", "content": "3°"},
        {"role": "assistant", "content": "3 degrees."},
    ]
    call_text = '<|tool_call|>[{"name": "weather", "arguments": {"city": "Köln"}}]<|/tool_call|>'
    definitions = json.dumps([TOOLS[0]["function"]], ensure_ascii=False)
    as_text = [
        {"role": "system", "content": system or "", "tools": definitions},
        {"role": "user", "content": "Köln?"},
        {"role": "assistant", "content": call_text},
        {"role": "tool_response", "content": "3°"},
        {"role": "assistant", "content": "3 degrees."},
    ]
    rendered = render(messages, TOOLS, TEMPLATES["phi4-mini"])
    assert text_of(rendered) == render_reference("phi4-mini", as_text, answer_wanted=False)
    assert loss_text(rendered) == f"{call_text}<|end|>3 degrees.<|end|>"


def test_tool_arguments_that_are_not_json_are_refused() -> None:
    calls = [{"function": {"name": "f", "arguments": "{city"}}]
    with pytest.raises(DatasetError, match="/messages/0/tool_calls/0/function/arguments"):
        render([{"role": "assistant", "tool_calls": calls}], None, TEMPLATES["phi4-mini"])


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert "<|user|>\na\nb<|end|>" in render_prompt(
        [{"role": "user", "content": parts}], None, TEMPLATES["phi3"]
    )


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Phi-3-mini-4k-instruct", "phi3"),
        ("microsoft/Phi-3-mini-128k-instruct", "phi3"),
        ("Phi-3-mini", "phi3"),
        ("PHI-3-MEDIUM-4K-INSTRUCT", "phi3-medium"),
        ("Phi-3-small-8k-instruct", "phi3-small"),
        ("Phi-3.5-mini-instruct", "phi3.5"),
        ("Phi-3.5-MoE-instruct", "phi3.5"),
        ("Phi-4", "phi4"),
        ("Phi-4-mini-instruct", "phi4-mini"),
        ("Phi-4-multimodal-instruct", "phi4-multimodal"),
        ("azureml://registries/azureml/models/Phi-4-mini-instruct/versions/5", "phi4-mini"),
        ("smollm2-135m", "smollm2"),
        ("phi3-medium", "phi3-medium"),
        ("gpt-oss-20b", "chatml"),
        ("tiny", "phi3"),
    ],
)
def test_get_template(model: str, name: str) -> None:
    assert get_template(model).name == name


@pytest.mark.parametrize("model", ["Phi-4-reasoning", "Phi-3-vision-128k-instruct", "bert", ""])
def test_get_template_of_unknown_model(model: str) -> None:
    with pytest.raises(UnsupportedError, match="no chat template"):
        get_template(model)


def test_microsoft_tool_sample_renders() -> None:
    path = shared_file("data/foundry_stock_toolcall_train.jsonl")
    for line in path.read_text().splitlines():
        row = json.loads(line)
        for name in ("phi4-mini", "smollm2"):
            rendered = render(row["messages"], row.get("tools"), TEMPLATES[name])
            assert any(segment.in_loss for segment in rendered)
