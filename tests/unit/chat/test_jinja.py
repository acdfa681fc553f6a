"""Templates in Jinja: the same text, and the same loss mask."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from maas_client.chat import TEMPLATES, render, render_prompt
from maas_client.chat.templates import to_jinja

CONVERSATIONS = (
    [{"role": "user", "content": "Hello."}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "it's \\ \n 'so'"},
        {"role": "assistant", "content": "Two {{ 2 }}."},
        {"role": "user", "content": "Three?"},
        {"role": "assistant", "content": "🦆"},
    ],
    [{"role": "system", "content": ""}, {"role": "user", "content": "?"}],
)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_jinja_renders_the_same_text(name: str) -> None:
    template = TEMPLATES[name]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    jinja_template = environment.from_string(to_jinja(template))
    for messages in CONVERSATIONS:
        prompt = jinja_template.render(messages=messages, add_generation_prompt=True)
        assert prompt == render_prompt(messages, None, template)
        text = "".join(segment.text for segment in render(messages, None, template))
        assert jinja_template.render(messages=messages, add_generation_prompt=False) == text


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_generation_tags_match_the_loss_mask(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from maas_client.local.bases import tiny

    tiny.write_model(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    template, messages = TEMPLATES[name], CONVERSATIONS[1]
    encoding = tokenizer.apply_chat_template(
        messages,
        chat_template=to_jinja(template, generation_tags=True),
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    segments = render(messages, None, template)
    text = "".join(segment.text for segment in segments)
    expected_encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    in_loss = [flag for s in segments for flag in [s.in_loss] * len(s.text)]
    assert encoding["input_ids"] == expected_encoding["input_ids"]
    expected = [int(in_loss[start]) for start, _ in expected_encoding["offset_mapping"]]
    assert list(encoding["assistant_masks"]) == expected
