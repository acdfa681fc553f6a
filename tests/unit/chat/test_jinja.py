"""Templates in Jinja: the same text, and the same loss mask."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from maas_client.chat import TEMPLATES, render, render_prompt
from maas_client.chat.jinja import to_jinja

TALKS = (
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
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    written = env.from_string(to_jinja(template))
    for talk in TALKS:
        said = written.render(messages=talk, add_generation_prompt=True)
        assert said == render_prompt(talk, None, template)
        whole = "".join(segment.text for segment in render(talk, None, template))
        assert written.render(messages=talk, add_generation_prompt=False) == whole


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_generation_tags_match_the_loss_mask(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from maas_client.local.bases import tiny

    tiny.write_model(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    template, talk = TEMPLATES[name], TALKS[1]
    found = tokenizer.apply_chat_template(
        talk,
        chat_template=to_jinja(template, generation_tags=True),
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    segments = render(talk, None, template)
    text = "".join(segment.text for segment in segments)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    learned = [flag for s in segments for flag in [s.in_loss] * len(s.text)]
    assert found["input_ids"] == encoded["input_ids"]
    want = [int(learned[start]) for start, _ in encoded["offset_mapping"]]
    assert list(found["assistant_masks"]) == want
