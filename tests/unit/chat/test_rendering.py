"""Rendering is the model's own template, byte for byte, with exactly the answers marked."""

from __future__ import annotations

import json
from pathlib import Path

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
ORIGINALS = {  # name: (chat_template, bos_token, eos_token)
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


def original(name: str, messages: list[dict[str, str]], *, answer_wanted: bool) -> str:
    source, bos, eos = ORIGINALS[name]
    # transformers compiles every chat template in exactly this environment
    room = jinja2.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return room.from_string(source).render(
        messages=messages, bos_token=bos, eos_token=eos, add_generation_prompt=answer_wanted
    )


def text_of(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments)


def learned_of(segments: list[Segment]) -> str:
    return "".join(segment.text for segment in segments if segment.in_loss)


def test_every_template_has_its_original() -> None:
    assert set(ORIGINALS) == set(TEMPLATES)


_roles = st.sampled_from(["user", "assistant"])
_content = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", " ", "\n", "a\n", "<|end|>", "{{ x }}", "Grüße 🦆"]
)
_talk = st.lists(
    st.builds(lambda r, c: {"role": r, "content": c}, _roles, _content), min_size=1, max_size=5
)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@settings(max_examples=60, deadline=None)
@given(talk=_talk, system=st.none() | _content)
def test_text_is_the_models_own(name: str, talk: list[dict[str, str]], system: str | None) -> None:
    template = TEMPLATES[name]
    if system is not None and template.system_handling != "merged":
        talk = [{"role": "system", "content": system}, *talk]
    assert text_of(render(talk, None, template)) == original(name, talk, answer_wanted=False)
    assert render_prompt(talk, None, template) == original(name, talk, answer_wanted=True)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_learned_are_the_answers_and_their_end(name: str) -> None:
    template = TEMPLATES[name]
    talk = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "not this", "weight": 0},
        {"role": "user", "content": "V"},
        {"role": "assistant", "content": "this", "weight": 1},
        {"role": "user", "content": "W"},
        {"role": "assistant", "content": "and this"},
    ]
    end = template.end_of_turn
    assert learned_of(render(talk, None, template)) == f"this{end}and this{end}"


@pytest.mark.parametrize("name", ["phi3-medium", "phi3-2024-04"])
def test_a_dropped_system_message_goes_into_the_first_user_turn(name: str) -> None:
    template = TEMPLATES[name]
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yo"},
    ]
    merged = [{"role": "user", "content": "Be brief.\n\nHi"}, talk[2]]
    assert text_of(render(talk, None, template)) == original(name, merged, answer_wanted=False)
    (misfit,) = find_mismatches(talk, None, template)
    assert (misfit.pointer, misfit.is_merged) == ("/messages/0/role", True)


def test_a_late_system_message_is_refused_where_it_would_be_lost() -> None:
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Yo"},
    ]
    with pytest.raises(DatasetError, match="/messages/1/role"):
        render(talk, None, TEMPLATES["phi3-medium"])


@pytest.mark.parametrize("name", ["phi3", "phi3-medium", "phi3-small", "phi3.5", "phi4"])
def test_what_a_template_has_no_place_for_is_refused(name: str) -> None:
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "3"},
    ]
    found = [
        misfit.pointer for misfit in find_mismatches(talk, [{"function": {}}], TEMPLATES[name])
    ]
    assert found == ["/tools", "/messages/1/tool_calls", "/messages/2/role"]
    with pytest.raises(DatasetError, match="no place for tools"):
        render(talk, [{"function": {}}], TEMPLATES[name])
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
def test_phi4_mini_tools_are_its_templates_own(system: str | None) -> None:
    talk = [{"role": "system", "content": system}] if system else []
    talk += [
        {"role": "user", "content": "Köln?"},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "1", "content": "3°"},
        {"role": "assistant", "content": "3 degrees."},
    ]
    said = '<|tool_call|>[{"name": "weather", "arguments": {"city": "Köln"}}]<|/tool_call|>'
    defined = json.dumps([TOOLS[0]["function"]], ensure_ascii=False)
    as_text = [
        {"role": "system", "content": system or "", "tools": defined},
        {"role": "user", "content": "Köln?"},
        {"role": "assistant", "content": said},
        {"role": "tool_response", "content": "3°"},
        {"role": "assistant", "content": "3 degrees."},
    ]
    rendered = render(talk, TOOLS, TEMPLATES["phi4-mini"])
    assert text_of(rendered) == original("phi4-mini", as_text, answer_wanted=False)
    assert learned_of(rendered) == f"{said}<|end|>3 degrees.<|end|>"


def test_arguments_that_are_not_json_are_refused() -> None:
    calls = [{"function": {"name": "f", "arguments": "{city"}}]
    with pytest.raises(DatasetError, match="/messages/0/tool_calls/0/function/arguments"):
        render([{"role": "assistant", "tool_calls": calls}], None, TEMPLATES["phi4-mini"])


def test_text_parts_are_one_text() -> None:
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
def test_a_models_template(model: str, name: str) -> None:
    assert get_template(model).name == name


@pytest.mark.parametrize("model", ["Phi-4-reasoning", "Phi-3-vision-128k-instruct", "bert", ""])
def test_an_unknown_model_is_refused(model: str) -> None:
    with pytest.raises(UnsupportedError, match="no chat template"):
        get_template(model)


def test_microsofts_tool_sample_renders() -> None:
    path = Path("/work/shared/data/foundry_stock_toolcall_train.jsonl")
    if not path.exists():
        pytest.skip("the shared data is not here")
    for line in path.read_text().splitlines():
        row = json.loads(line)
        for name in ("phi4-mini", "smollm2"):
            rendered = render(row["messages"], row.get("tools"), TEMPLATES[name])
            assert any(segment.in_loss for segment in rendered)
