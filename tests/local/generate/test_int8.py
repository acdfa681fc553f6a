"""Weights in eight bits: close to unquantised ones, the same alone and in a batch, with adapters in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.generate import int8, protocol  # noqa: E402 - after the skip
from maas_client.local.generate.cache import KeyValueCache  # noqa: E402
from maas_client.local.generate.divergence import Divergence  # noqa: E402
from maas_client.local.generate.engine import InferenceEngine  # noqa: E402
from maas_client.local.generate.int8 import int8_linear  # noqa: E402
from maas_client.local.generate.model import InferenceModel  # noqa: E402
from maas_client.local.generate.protocol import GenerationError  # noqa: E402
from maas_client.local.machine.onednn import Matmul  # noqa: E402
from tests.local.generate.conftest import BaseUnderTest  # noqa: E402

TOKENS = [3 * n % 250 for n in range(40)]


def logits(
    model: InferenceModel, adapter: Path | None = None, *, merge: bool = True
) -> torch.Tensor:
    name = str(adapter) if adapter else None
    if name:
        model.load_adapter(name)
    model.set_merged_adapter(name if merge else None)
    rows = [TOKENS, TOKENS[::-1]]
    positions = [list(range(len(TOKENS)))] * 2
    return model.forward(rows, positions, KeyValueCache(), [name] * 2)


@pytest.fixture(scope="module")
def model(phi: BaseUnderTest) -> InferenceModel:
    return InferenceModel(replace(phi.base, precision="int8"))


@pytest.mark.parametrize("has_product", [True, False])
@pytest.mark.parametrize("rows", [1, 8, int8._MAX_ROWS + 1])
def test_product_is_close_to_float32(
    rows: int, has_product: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "_has_product", lambda: has_product)
    torch.manual_seed(0)
    weight, bias, x = torch.randn(96, 64), torch.randn(96), torch.randn(rows, 1, 64)
    weight[5] = 0
    expected = torch.nn.functional.linear(x, weight, bias)
    error = (int8_linear(weight)(x, bias) - expected).norm() / expected.norm()
    assert 0 < error < 0.01


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    torch.manual_seed(0)
    product = int8_linear(torch.randn(96, 64))
    x = torch.randn(8, 1, 64)
    x[1:] *= 100
    torch.testing.assert_close(product(x[:1], None), product(x, None)[:1])


@pytest.fixture
def clear_checks() -> Iterator[None]:
    """Let the test and those after it check the products of this processor again."""
    int8._has_integer_product.cache_clear()
    yield
    int8._has_integer_product.cache_clear()


@pytest.mark.parametrize("saturates", [False, True])
@pytest.mark.usefixtures("clear_checks")
def test_prompt_multiplies_integers_where_their_sums_are_exact(
    saturates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_counts = []

    def multiply(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        row_counts.append(len(x))
        product = (x.double() @ weight.double()).int()
        return product.clamp(-(2**15), 2**15 - 1) if saturates else product

    def pack(values: torch.Tensor, scale: torch.Tensor) -> Matmul:
        return lambda x, _: int8._integer_product(x, values) * scale

    monkeypatch.setattr(torch, "_int_mm", multiply)
    monkeypatch.setattr(int8, "_packed_linear", pack)
    torch.manual_seed(0)
    weight, x = torch.randn(96, 64), torch.randn(2, 7, 64)
    x[0, 3] *= 1000
    x[1, 2] = 0
    expected = torch.nn.functional.linear(x, weight)
    product = int8_linear(weight)
    row_counts.clear()
    assert (product(x, None) - expected).norm() < 0.01 * expected.norm()
    assert product(x, None)[1, 2].count_nonzero() == 0
    assert row_counts == ([] if saturates else [28, 28]), "two rows of bytes for each token"
    product(x[:, :1], None)
    assert len(row_counts) == (0 if saturates else 2), "a token that is decoded"


@pytest.mark.skipif(not int8._has_integer_product(), reason="sums of bytes saturate here")
@pytest.mark.parametrize("shape", [(1, 1), (8, 1), (2, 5)])
def test_output_layer_rounds_inputs_to_16_bits(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.randint(-127, 128, (64 * int8._WIDE, 64)).float()
    values[:, 0] = 127
    x = torch.randn(*shape, 64)
    expected = torch.nn.functional.linear(x, values / 128)
    product = int8_linear(values / 128)
    assert (product(x, None) - expected).norm() < 1e-4 * expected.norm()
    bias = torch.randn(len(values))
    assert torch.equal(product(x, bias), product(x, None) + bias)
    assert torch.equal(product(x[:1, -1:], None), product(x, None)[:1, -1:])


def test_prompt_does_not_depend_on_how_it_is_divided() -> None:
    torch.manual_seed(0)
    product = int8_linear(torch.randn(96, 64))
    x = torch.randn(1, 40, 64) * torch.logspace(-3, 3, 40)[:, None]
    parts = [product(part, None) for part in (x[:, :2], x[:, 2:7], x[:, 7:])]
    tolerance = 1e-6 * x.norm(dim=-1, keepdim=True) * 64
    assert ((torch.cat(parts, 1) - product(x, None)).abs() <= tolerance).all()
    if int8._has_integer_product():
        assert torch.equal(torch.cat(parts, 1), product(x, None))


def test_divergence_is_zero_for_equal_logits_only() -> None:
    expected = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert Divergence.between(expected, expected) == Divergence(0.0, 2, 2)
    other = Divergence.between(expected, expected.flip(1))
    assert (other.same, other.tokens) == (0, 2)
    assert other.nats > 0.1


def test_int8_model_states_its_divergence(model: InferenceModel, phi: BaseUnderTest) -> None:
    assert model.divergence is not None
    assert 0 < model.divergence.nats < 0.01
    assert model.divergence.same >= 0.8 * model.divergence.tokens
    assert f"{model.divergence.nats:.2g} nats" in model.divergence.describe()
    assert InferenceModel(phi.base).divergence is None, "int8 is off by default"


@pytest.mark.parametrize("which", [0, 1], ids=["lora", "dora"])
def test_int8_weights_with_an_adapter_merged_or_beside_are_as_close_as_without(
    model: InferenceModel, phi: BaseUnderTest, adapters: list[Path], which: int
) -> None:
    unquantised = InferenceModel(phi.base)
    base, expected = logits(unquantised), logits(unquantised, adapters[which])
    effect = (expected - base).norm()
    for merge in (True, False):
        actual = logits(model, adapters[which], merge=merge)
        assert model.merged_adapter == (str(adapters[which]) if merge else None)
        assert (actual - expected).norm() < 0.05 * effect, merge
    assert (logits(model) - base).norm() < 0.05 * effect, "the adapter is gone"


def test_loading_an_int8_base_yields_a_notice_once(phi: BaseUnderTest) -> None:
    engine = InferenceEngine(idle_s=60, max_rows=2)
    line: dict[str, Any] = {
        "op": "load",
        "id": "1",
        "base": {"folder": str(phi.folder), "template": "phi3", "precision": "int8"},
    }
    notice, loaded = engine.handle(line)
    assert "int8 weights" in notice["notice"]
    assert "nats per token" in notice["notice"]
    assert loaded["loaded"]
    assert [reply["id"] for reply in engine.handle(line)] == ["1"]
    unquantised = {**line, "base": {**line["base"], "precision": "auto"}}
    assert ["notice" in reply for reply in engine.handle(unquantised)] == [False]


def test_unknown_precision_and_int8_on_a_gpu_are_refused(phi: BaseUnderTest) -> None:
    with pytest.raises(GenerationError, match="'precision' must be auto or int8"):
        protocol.parse_base({"folder": "f", "template": "phi3", "precision": "int4"})
    with pytest.raises(GenerationError, match="on the CPU only"):
        InferenceModel(replace(phi.base, precision="int8", device="cuda"))
