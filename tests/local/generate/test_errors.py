"""Requests that cannot be answered get one clear error, and code of a folder is never run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402 - after the skip
from hypothesis import strategies as st  # noqa: E402

from maas_client.local.generate import protocol  # noqa: E402 - after the skip
from maas_client.local.generate.engine import InferenceEngine  # noqa: E402
from maas_client.local.generate.protocol import GenerationError, SamplingParams  # noqa: E402
from tests.local.generate.conftest import BaseUnderTest, make_adapter, run_until_done  # noqa: E402

Copy = Callable[[Path], Path]


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(base_under_test: BaseUnderTest, adapter: Path) -> str:
    with pytest.raises(GenerationError) as caught:
        base_under_test.scheduler().load_adapter(str(adapter))
    assert caught.value.code == "model_unusable"
    return caught.value.message


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/tmp/ans/boom").touch, ())


def test_pickled_adapter_raises(phi: BaseUnderTest, adapters: list[Path], copied: Copy) -> None:
    folder = copied(adapters[0])
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    assert "pickled weights are refused" in refusal(phi, folder)


def test_adapter_of_another_base_names_the_layer(
    phi: BaseUnderTest, llama: BaseUnderTest, tmp_path: Path
) -> None:
    other_adapter = make_adapter(llama.folder, tmp_path / "other", 1)
    text = refusal(phi, other_adapter)
    assert "does not fit this base" in text
    assert "model.layers.0" in text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "only LoRA"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"use_dora": True}, "use_dora"),
    ],
)
def test_unsupported_adapter_setting_raises(
    phi: BaseUnderTest, adapters: list[Path], copied: Copy, change: dict[str, Any], word: str
) -> None:
    folder = copied(adapters[0])
    edit(folder / "adapter_config.json", **change)
    assert word in refusal(phi, folder)


@pytest.mark.parametrize("cut", [4, 200, -50])
def test_truncated_weights_raise(
    phi: BaseUnderTest, adapters: list[Path], copied: Copy, cut: int
) -> None:
    folder = copied(adapters[0])
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    assert "cannot be read" in refusal(phi, folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model_type": "mamba"}, "architecture"),
        ({"auto_map": {"AutoModelForCausalLM": "evil.Model"}}, "needs its own code"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rejects its config"),
        (
            {"model_type": "llama", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
            "position encoding",
        ),
        ({"intermediate_size": 96}, "shape"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"rope_theta": "x"}, "rope_theta is not a positive number"),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": -1.0}}, "rope_theta"),
        ({"rope_theta": 1e400}, "rope_theta"),
        ({"sliding_window": -3}, "sliding_window is not a positive number"),
        ({"partial_rotary_factor": 9.0}, "rotated part of a head"),
        ({"model_type": "llama", "partial_rotary_factor": "x"}, "rotated part of a head"),
        ({"model_type": "llama", "head_dim": 7}, "rotated part of a head"),
        ({"hidden_act": "tanh"}, "its activation 'tanh' is not one of"),
        ({"num_hidden_layers": 3}, "no weights for"),
    ],
)
def test_unsupported_base_raises(
    phi: BaseUnderTest, copied: Copy, change: dict[str, Any], word: str
) -> None:
    folder = copied(phi.folder)
    edit(folder / "config.json", **change)
    with pytest.raises(GenerationError, match=word):
        BaseUnderTest(folder).scheduler()


def test_base_that_is_gone_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(GenerationError) as caught:
        BaseUnderTest(tmp_path / "gone").scheduler()
    assert caught.value.code == "model_unusable"
    assert caught.value.message.startswith(f"No base weights are in {tmp_path / 'gone'}. Restore")


def test_too_long_prompt_names_the_token_counts(phi: BaseUnderTest) -> None:
    scheduler = phi.scheduler()
    with pytest.raises(GenerationError, match="maximum context length is 4096 tokens") as caught:
        scheduler.submit(phi.chat("x" * 4090, max_tokens=30))
    assert caught.value.code == "context_length_exceeded"
    assert "30 in the completion" in caught.value.message
    scheduler.submit(phi.chat("x" * 4000, max_tokens=None))
    scheduler.cancel("2")


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 3}, {"temperature": float("nan")}, {"top_p": -0.1}, {"max_tokens": 0},
        {"max_tokens": 1.5}, {"stop": [1]}, {"seed": "x"}, {"temperature": True}, {"best_of": 2},
    ],
)  # fmt: skip
def test_sampling_parameters_out_of_bounds_raise(params: dict[str, Any]) -> None:
    with pytest.raises(GenerationError) as caught:
        protocol.parse_params(params)
    assert next(iter(params)) in caught.value.message


@pytest.mark.parametrize(
    "line",
    [
        {}, {"op": "chat"}, {"op": "dance", "id": "1"}, {"op": "chat", "id": "1"},
        {"op": "load", "id": "1", "base": {"folder": "/nowhere", "template": "phi3"}},
        {"op": "load", "id": "1", "base": {"folder": "/nowhere", "template": "latin"}},
    ],
)  # fmt: skip
def test_invalid_line_gets_an_error_reply(line: dict[str, Any]) -> None:
    (reply,) = InferenceEngine(idle_s=1, max_rows=1).handle(line)
    assert reply["id"] == line.get("id")
    assert set(reply["error"]) == {"code", "message"}
    assert reply["error"]["code"] != "internal_error"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "", 5, None])
MESSAGE = st.fixed_dictionaries(
    {"role": ROLES, "content": VALUES | st.text()},
    optional={"tool_calls": VALUES, "weight": VALUES},
)
JUNK = {
    "base": VALUES,
    "adapter": VALUES,
    "messages": VALUES | st.lists(MESSAGE | VALUES, min_size=1, max_size=3),
    "tools": VALUES | st.lists(VALUES, min_size=1, max_size=2),
    "params": VALUES | st.dictionaries(st.sampled_from([*SamplingParams.__slots__, "n"]), VALUES),
}


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_arbitrary_lines_never_raise(phi: BaseUnderTest, data: st.DataObject) -> None:
    engine = InferenceEngine(idle_s=1, max_rows=1)
    line: dict[str, Any] = {
        "op": "chat",
        "id": "1",
        "base": {
            "folder": str(phi.folder),
            "template": data.draw(st.sampled_from(["phi3", "phi4-mini"])),
        },
        "messages": [{"role": "user", "content": "hi"}],
    }
    for name in data.draw(st.sets(st.sampled_from(sorted(JUNK)), min_size=1, max_size=2)):
        line[name] = data.draw(JUNK[name], label=name)
    for reply in engine.handle(line):
        assert reply["error"]["code"] != "internal_error", (line, reply)


def test_failure_ends_active_rows_only(
    phi: BaseUnderTest, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    scheduler = phi.scheduler(max_rows=1)
    hit, spared = phi.chat("one"), phi.chat("two")
    scheduler.submit(hit)
    list(scheduler.step())
    scheduler.submit(spared)
    with monkeypatch.context() as broken:

        def fail(*_: Any) -> None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        broken.setattr(scheduler.model, "forward", fail)
        (reply,) = scheduler.step()
    assert reply["id"] == hit.id
    assert reply["error"]["code"] == "out_of_memory"
    assert run_until_done(scheduler)[spared.id]["finish_reason"] in {"stop", "length"}


@pytest.mark.parametrize(
    "part",
    [
        "batch.KeyValueCache.from_prefixes",
        "scheduler.next_tokens",
        "batch.KeyValueCache.keep_rows",
    ],
)
def test_failure_before_or_after_a_prompt_is_read_ends_its_rows(
    phi: BaseUnderTest,
    part: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    scheduler = phi.scheduler()
    chats = [phi.chat("one", max_tokens=1), phi.chat("two")]
    for chat in chats:
        scheduler.submit(chat)
    with monkeypatch.context() as broken:
        broken.setattr(f"maas_client.local.generate.{part}", lambda *_: 1 / 0)
        errors = {reply["id"]: reply.get("error") for reply in scheduler.step()}
    assert list(errors) == [chat.id for chat in chats]
    assert all(error and error["code"] == "internal_error" for error in errors.values())
    assert not scheduler.busy
    scheduler.submit(again := phi.chat("one"))
    assert run_until_done(scheduler)[again.id]["finish_reason"] in {"stop", "length"}
