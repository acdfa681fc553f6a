"""Write the files beside the weights: model card, licence, tokenizer, chat template, generation config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from maas_client.chat import ChatTemplate, render_prompt
from maas_client.chat.templates import to_jinja
from maas_client.local.export.trained_model import TrainedModel

_NOTICE_PATTERNS = ("LICENSE*", "LICENCE*", "NOTICE*")
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja",
)  # fmt: skip
_PROBES: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Hello."}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
    ],
)


def write_licence_files(trained: TrainedModel, out: Path) -> list[str]:
    """Copy the licence and notice files of base and adapter; return their names."""
    names = []
    for source in (trained.base, trained.folder):
        for path in sorted(p for pattern in _NOTICE_PATTERNS for p in source.glob(pattern)):
            shutil.copyfile(path, out / path.name)
            names.append(path.name)
    return sorted(set(names))


def write_tokenizer(trained: TrainedModel, out: Path) -> None:
    """Copy the tokenizer, with a chat template equal to the one used in training."""
    source = trained.folder if (trained.folder / "tokenizer.json").exists() else trained.base
    for name in _TOKENIZER_FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, out / name)
    if not template_matches(out, trained.template):
        (out / "chat_template.jinja").write_text(to_jinja(trained.template), encoding="utf-8")


def template_matches(folder: Path, template: ChatTemplate) -> bool:
    """Return whether a folder's own chat template renders the same prompts as ``template``."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if not getattr(tokenizer, "chat_template", None):
        return False
    return all(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        == render_prompt(messages, None, template)
        for messages in _PROBES
    )


def write_generation_config(trained: TrainedModel, out: Path) -> list[int]:
    """Write ``generation_config.json`` with the end tokens used in training; return their ids.

    Base folders often name the wrong end token, and a merged model then never stops.
    """
    from tokenizers import Tokenizer

    path = trained.base / "generation_config.json"
    config: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    stop_ids = (tokenizer.token_to_id(text) for text in trained.template.stop_strings)
    end_ids = list(
        dict.fromkeys(
            [*(token_id for token_id in stop_ids if token_id is not None), *_end_token_ids(config)]
        )
    )
    config["eos_token_id"] = end_ids
    (out / "generation_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return end_ids


def _end_token_ids(config: Mapping[str, Any]) -> Iterable[int]:
    end_ids = config.get("eos_token_id")
    return [
        token_id
        for token_id in (end_ids if isinstance(end_ids, list) else [end_ids])
        if isinstance(token_id, int)
    ]


def write_model_card(
    trained: TrainedModel, out: Path, format: str, checks: Mapping[str, Any]
) -> None:
    """Write ``README.md``: origin of the model, how it was trained, and the result of the check."""
    card = trained.card
    config = {k: v for k, v in (card.get("training_config") or {}).items() if v is not None}
    front_matter = {
        "license": "other",
        "license_name": trained.licence,
        "base_model": trained.base_name,
        "library_name": "peft" if format == "adapter" else "transformers",
        "pipeline_tag": "text-generation",
    }
    sections = [
        "---\n" + "".join(f"{k}: {json.dumps(v)}\n" for k, v in front_matter.items()) + "---",
        f"# {trained.name}",
        f"{trained.base_name}, fine-tuned with maas_client; exported as `{format}`.",
        _table("Data", {"rows": card.get("rows"), **(card.get("data") or {})}),
        _table("Training settings", {"chat template": trained.template.name, **config}),
        _table("Result", {"step": card.get("step"), **(card.get("metrics") or {})}),
        _table("Checked after writing", checks),
        f"Licence of the base: {trained.licence}. Its licence files are in this folder.",
    ]
    (out / "README.md").write_text("\n\n".join(part for part in sections if part) + "\n", "utf-8")


def _table(title: str, entries: Mapping[str, Any]) -> str:
    rows = [f"| {k} | {_cell(v)} |" for k, v in entries.items() if v is not None]
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *rows]) if rows else ""


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
