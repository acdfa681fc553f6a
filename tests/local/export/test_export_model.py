"""Each export format loads with another library and gives the same output."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from gguf import GGUFReader, GGUFWriter  # noqa: E402 - after the skip

from maas_client.chat import TEMPLATES, render_prompt  # noqa: E402
from maas_client.errors import ConfigError, MaasError, UnsupportedError  # noqa: E402
from maas_client.local import bases  # noqa: E402
from maas_client.local.export import checks, merge  # noqa: E402
from maas_client.local.export.export_model import ExportFormat, Precision, export_model  # noqa: E402
from maas_client.local.export.import_model import import_folder  # noqa: E402
from maas_client.local.export.trained_model import TrainedModel, load_trained_model  # noqa: E402
from maas_client.local.state import atomic_folder  # noqa: E402
from tests.local.export.conftest import tune  # noqa: E402
from tests.local.generate.conftest import (  # noqa: E402
    LLAMA,
    LONG,
    BaseUnderTest,
    make_adapter,
    make_base,
    run_until_done,
)


def answer(folder: Path, text: str, adapter: Path | None = None) -> list[int]:
    base_under_test = BaseUnderTest(folder)
    scheduler = base_under_test.scheduler()
    chat = base_under_test.chat(text, adapter)
    scheduler.submit(chat)
    tokens: list[int] = run_until_done(scheduler)[chat.id]["tokens"]
    return tokens


def test_exported_adapter_loads_in_peft(tuned: TrainedModel, tmp_path: Path) -> None:
    result = export_model(tuned, "adapter", tmp_path / "out")
    assert result.checks["loaded by"] == "peft"
    assert result.checks["layers"] == 8
    assert atomic_folder.is_complete(result.folder)
    names = {path.name for path in result.folder.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "LICENSE", "README.md"} <= names
    card = (result.folder / "README.md").read_text()
    for fact in ("tickets", "tiny", "ab" * 32, "DoRA", "1.25", "divergence_nats"):
        assert fact in card


def run_snippet(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the block of code of an export's card and return what it prints."""
    block = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(compile(block, "README.md", "exec"), {})
    return capsys.readouterr().out


@pytest.mark.parametrize("format", ["adapter", "merged"])
def test_card_snippet_loads_the_export(
    tuned: TrainedModel,
    tmp_path: Path,
    format: ExportFormat,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The base is found by its path from the folder in which the export ran."""
    monkeypatch.chdir(tmp_path)
    result = export_model(tuned, format, Path("out"))
    assert run_snippet(result.folder, capsys).strip()
    card = (result.folder / "README.md").read_text()
    assert 'base_model: "tiny"' not in card  # the hub has no such repository
    if format == "adapter":
        config = json.loads((result.folder / "adapter_config.json").read_text())
        assert (tmp_path / config["base_model_name_or_path"]).resolve() == tuned.base.resolve()
        assert config["base_model_name_or_path"] in card
        assert not Path(config["base_model_name_or_path"]).is_absolute()


def test_adapter_of_a_hub_model_names_its_hub_id(tuned: TrainedModel, tmp_path: Path) -> None:
    hub_id = "microsoft/Phi-3-mini-4k-instruct"
    result = export_model(replace(tuned, base_name=hub_id), "adapter", tmp_path / "out")
    config = json.loads((result.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == hub_id
    card = (result.folder / "README.md").read_text()
    assert f'base_model: "{hub_id}"' in card
    assert "AutoPeftModelForCausalLM.from_pretrained" in card
    assert "has no repository" not in card


def test_merged_model_matches_base_with_adapter(tuned: TrainedModel, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    result = export_model(tuned, "merged", tmp_path / "out")
    assert answer(result.folder, "hello") == answer(tuned.base, "hello", tuned.folder)
    assert answer(result.folder, "hello") != answer(tuned.base, "hello")
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    messages = [{"role": "user", "content": "hi"}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == render_prompt(messages, None, tuned.template)
    ends = json.loads((result.folder / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids("<|end|>") in ends


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_quantised_onnx_model_generates(
    narrow: TrainedModel, tmp_path: Path, precision: str
) -> None:
    pytest.importorskip("onnxruntime_genai")
    result = export_model(narrow, "onnx", tmp_path / "out", precision=precision)  # type: ignore[arg-type]  # a literal
    assert result.checks["loaded by"] == "onnxruntime-genai"
    assert result.checks["tokens_s"] > 0
    assert _bits(result.folder) == {"int8": {8}, "int4": {4, 8}}[precision]
    assert result.checks["verdict"] == checks._verdict(result.checks["divergence_nats"])
    assert json.loads((result.folder / "inference_model.json").read_text()) == {
        "Name": "tickets",
        "PromptTemplate": {
            "assistant": "{Content}",
            "prompt": "<|user|>\n{Content}<|end|>\n<|assistant|>\n",
        },
    }


@pytest.mark.parametrize(
    ("divergence", "verdict"),
    [
        (0.0, "good"),
        (0.05, "good"),
        (0.06, "usable"),
        (0.5, "usable"),
        (0.6, "poor"),
        (float("nan"), "poor"),
    ],
)
def test_verdict_of_rounding(divergence: float, verdict: str) -> None:
    assert checks._verdict(divergence) == verdict


def _bits(folder: Path) -> set[int]:
    """Return the bit widths of quantised weights."""
    import onnx

    nodes = onnx.load(folder / "model.onnx", load_external_data=False).graph.node
    return {a.i for node in nodes for a in node.attribute if a.name == "bits"}


@pytest.mark.slow
def test_onnx_model_generates(tuned: TrainedModel, tmp_path: Path) -> None:
    """A layer of this model is as wide as its vocabulary: it is not taken for the output layer."""
    pytest.importorskip("onnxruntime_genai")
    result = export_model(tuned, "onnx", tmp_path / "out", precision="fp32")
    assert result.checks["loaded by"] == "onnxruntime-genai"
    assert result.checks["tokens_s"] > 0
    agree, _, total = result.checks["tokens_that_agree"].partition(" of ")
    assert agree == total
    assert result.checks["divergence_nats"] < 1e-6
    assert _bits(result.folder) == set()


LLAMA_MODEL = {**LLAMA, "num_attention_heads": 4, "num_key_value_heads": 2}
LONG_CONTEXT = {**LONG, "original_max_position_embeddings": 512, "max_position_embeddings": 2048}


@pytest.fixture(scope="module", params=["phi3", "llama", "longrope"])
def gguf_source(
    request: pytest.FixtureRequest,
    tuned: TrainedModel,
    base: bases.BaseWeights,
    tmp_path_factory: pytest.TempPathFactory,
) -> TrainedModel:
    if request.param == "phi3":
        return tuned
    folder = tmp_path_factory.mktemp(request.param)
    changes = LLAMA_MODEL if request.param == "llama" else LONG_CONTEXT
    base_folder = make_base(folder / "base", **changes)
    return tune(replace(base, folder=str(base_folder), name=request.param), folder / "adapter")


def test_gguf_is_the_merged_model(gguf_source: TrainedModel, tmp_path: Path) -> None:
    """llama.cpp answers alike where it is installed; else all tensors and the tokenizer are compared."""
    result = export_model(gguf_source, "gguf", tmp_path / "out", precision="f32")
    assert result.checks["largest_tensor_error"] == 0
    if "divergence_nats" in result.checks:
        assert result.checks["divergence_nats"] < 1e-6
        agree, _, total = result.checks["tokens_that_agree"].partition(" of ")
        assert agree == total
    else:
        assert "not run" in result.checks["compared by"]
    (path,) = result.folder.glob("*.gguf")
    assert path.name == "tickets-f32.gguf"
    fields = {name: field.contents() for name, field in GGUFReader(path).fields.items()}
    is_llama = "llama" in gguf_source.base_name
    architecture = fields["general.architecture"]
    assert architecture == ("llama" if is_llama else "phi3")
    assert fields[f"{architecture}.block_count"] == 2
    assert fields[f"{architecture}.attention.head_count_kv"] == 2
    tokens = fields["tokenizer.ggml.tokens"]
    assert tokens[fields["tokenizer.ggml.eos_token_id"]] == "<|end|>"
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert "add_generation_prompt" in fields["tokenizer.chat_template"]
    assert "llama-cli" in (result.folder / "README.md").read_text()


def test_gguf_tensors_of_llama_have_neighbouring_halves(tmp_path: Path) -> None:
    """llama.cpp rotates values 0 and 1 of a head together; transformers rotates 0 and size / 2."""
    from safetensors import torch as torch_file

    from maas_client.local.export.gguf import writer

    folder = make_base(tmp_path / "base", **LLAMA_MODEL)
    config = json.loads((folder / "config.json").read_text())
    tensors = {tensor.name: tensor for tensor in writer._tensors(folder, config, "f32")}
    query = writer._values(folder, tensors["blk.0.attn_q.weight"])
    value = writer._values(folder, tensors["blk.0.attn_v.weight"])
    weights = torch_file.load_file(folder / "model.safetensors")
    source = weights["model.layers.0.self_attn.q_proj.weight"].numpy()
    assert (query[[0, 1, 2, 32, 33]] == source[[0, 16, 1, 32, 48]]).all()  # heads of 32 values
    assert (value == weights["model.layers.0.self_attn.v_proj.weight"].numpy()).all()
    assert "output.weight" not in tensors  # tied to the embeddings


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
def test_smaller_gguf(tuned: TrainedModel, tmp_path: Path, precision: Precision) -> None:
    result = export_model(tuned, "gguf", tmp_path / "out", precision=precision)
    assert 0 < result.checks["largest_tensor_error"] < 0.01
    types = {
        tensor.tensor_type.name for tensor in GGUFReader(next(result.folder.glob("*.gguf"))).tensors
    }
    assert types == {"F32", precision.upper()}


def test_sentencepiece_tokenizer_in_gguf(tmp_path: Path) -> None:
    """Ranks of merges become scores, and bytes and control tokens have their types."""
    from maas_client.local.export.gguf import tokenizer as gguf_tokenizer

    tokens = [
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "a",
        "b",
        "▁a",
        "ab",
        "▁ab",
    ]
    tokenizer = {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "added_tokens": [
            {"id": len(tokens), "content": "<|end|>", "special": True, "rstrip": True}
        ],
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {text: at for at, text in enumerate(tokens)},
            "merges": ["a b", "▁ ab", "▁ a"],
        },
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    gguf_tokenizer.check_tokenizer(tmp_path)
    writer = GGUFWriter(tmp_path / "x.gguf", "phi3")
    gguf_tokenizer.add_tokenizer(writer, tmp_path, TEMPLATES["phi3"], 270)
    writer.add_name("x")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    fields = {n: field.contents() for n, field in GGUFReader(tmp_path / "x.gguf").fields.items()}
    assert fields["tokenizer.ggml.model"] == "llama"
    scores = dict(
        zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.scores"], strict=True)
    )
    assert scores["ab"] > scores["▁ab"] > scores["▁a"] > scores["a"]
    types = dict(
        zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True)
    )
    assert (types["<unk>"], types["<0x41>"], types["<|end|>"], types["ab"]) == (2, 6, 3, 1)
    assert types["[PAD269]"] == 5
    assert fields["tokenizer.ggml.add_space_prefix"] is True
    tokenizer["model"]["merges"] = ["a b", "▁ a", "a b"]  # type: ignore[index]  # JSON
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UnsupportedError, match="no order of SentencePiece scores"):
        gguf_tokenizer.check_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen3"}, "architecture qwen3 cannot be exported as GGUF: llama and phi3"),
        (
            {"model_type": "llama", "rope_parameters": {"rope_type": "yarn"}},
            "position scaling yarn",
        ),
    ],
)
def test_unsupported_gguf_is_refused_by_name(
    tuned: TrainedModel, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tuned.base, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=reason):
        export_model(replace(tuned, base=folder), "gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("format", "precision", "choices"),
    [
        ("gguf", "int4", "f16, f32, q8_0"),
        ("onnx", "q8_0", "int4, int8, fp32"),
        ("merged", "f16", "Leave out"),
    ],
)
def test_precision_of_another_format_is_refused(
    tuned: TrainedModel, tmp_path: Path, format: ExportFormat, precision: Precision, choices: str
) -> None:
    with pytest.raises(ConfigError, match=f"--to {format} has no precision {precision}.*{choices}"):
        export_model(tuned, format, tmp_path / "out", precision=precision)


def test_different_output_fails_the_export(
    tuned: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "_merge_weight", lambda _name, weight, _delta: weight.clone())
    with pytest.raises(MaasError, match="answers differently"):
        export_model(tuned, "merged", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_adapter_of_another_base_is_not_exported(
    tuned: TrainedModel, tmp_path: Path, base: bases.BaseWeights
) -> None:
    other_base = make_base(tmp_path / "llama", **LLAMA)
    other_adapter = make_adapter(other_base, tmp_path / "strange", 1)
    with pytest.raises(ConfigError, match="does not fit this base"):
        export_model(replace(tuned, folder=other_adapter), "merged", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_existing_folder_raises(tuned: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="exists"):
        export_model(tuned, "merged", tmp_path / "out")


def test_folder_that_cannot_be_created_is_refused_first(
    tuned: TrainedModel, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    steps: list[str] = []
    for out, words in (("file/out", "cannot be created"), ("link", "exists")):
        with pytest.raises(ConfigError, match=words):
            export_model(tuned, "merged", tmp_path / out, progress=steps.append)
    assert not steps


def test_whole_model_has_no_adapter_to_export(tuned: TrainedModel, tmp_path: Path) -> None:
    whole_model = export_model(tuned, "merged", tmp_path / "merged").folder
    model = replace(tuned, folder=whole_model)
    with pytest.raises(ConfigError, match="no adapter"):
        export_model(model, "adapter", tmp_path / "out")
    result = export_model(model, "merged", tmp_path / "copy")
    assert answer(result.folder, "hello") == answer(whole_model, "hello")


def test_export_can_be_imported_again(
    tuned: TrainedModel, tmp_path: Path, base: bases.BaseWeights
) -> None:
    result = export_model(tuned, "adapter", tmp_path / "out")
    back = import_folder(result.folder, tmp_path / "in", base)
    assert back.kind == "adapter"
    assert back.hashes_checked
    assert answer(tuned.base, "hi", back.folder) == answer(tuned.base, "hi", tuned.folder)
    again = load_trained_model(back.folder, tuned.base.parent)
    assert (again.template, again.base) == (tuned.template, tuned.base)
    assert str(tuned.base) not in (back.folder / "training.json").read_text()


def test_check_detects_a_wrong_adapter(tuned: TrainedModel, tmp_path: Path) -> None:
    wrong = make_adapter(tuned.base, tmp_path / "wrong", 5, use_dora=True)
    with pytest.raises(MaasError, match="answers differently"):
        checks.check_adapter(tuned, wrong)


@pytest.mark.parametrize(
    ("folder", "name"),
    [(".", "adapter"), ("../adapter", "adapter"), ("../my\n'model' 2", "my-model-2")],
)
def test_the_name_of_a_folder_fits_commands_and_files(
    tuned: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    for copy in ("adapter", "my\n'model' 2"):
        shutil.copytree(tuned.folder, tmp_path / copy)
    monkeypatch.chdir(tmp_path / "adapter")
    assert load_trained_model(Path(folder), tmp_path, base=tuned.base).name == name


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["{", "{}", "[]", "[" * 100_000, None])
def test_a_damaged_base_is_refused_before_the_export(
    tuned: TrainedModel, tmp_path: Path, name: str, content: str | None
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for path in ("config.json", "tokenizer.json"):
        shutil.copyfile(tuned.base / path, base / path)
    if content is None:
        (base / name).unlink()
    else:
        (base / name).write_text(content)
    with pytest.raises(ConfigError, match=r"is missing or damaged|--base .* has no config.json"):
        load_trained_model(tuned.folder, tmp_path, base=base)
