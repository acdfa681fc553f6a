"""The engine of interactive training: losses, gradients, sampling, checkpoints, and equality with a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: TID253 - the conftest skips this folder without it

import maas_client as maas
from maas_client.local.bases import BaseWeights
from maas_client.local.embedded_server import serve
from maas_client.local.sessions.engine import SessionEngine
from maas_client.local.sessions.losses import InvalidRequestError
from maas_client.local.training.data import Example
from maas_client.local.training.packing import epoch_order
from tests.local.training.test_run import run_job, spec

Data = Callable[..., str]
ADAM = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "weight_decay": 0.0}
LOSSES: dict[str, dict[str, float]] = {
    "cross_entropy": {},
    "importance_sampling": {},
    "ppo": {"clip_low_threshold": 0.9, "clip_high_threshold": 1.05},
    "cispo": {"clip_low_threshold": 0.9, "clip_high_threshold": 1.05},
    "sapo": {"tau_pos": 1.5, "tau_neg": 2.0},
}


def engine_of(base: BaseWeights, folder: Path, **changes: Any) -> SessionEngine:
    return SessionEngine(
        {
            "base": base.as_dict(),
            "lora_config": {"rank": 8, "alpha": 16, "seed": 7},
            "device": "cpu",
            "folder": str(folder),
            "fingerprint": "session tiny 8 16",
            "resume": None,
            **changes,
        }
    )


def gradients_of(engine: SessionEngine) -> dict[str, torch.Tensor]:
    """Return copies of the gradients, by the name of the weight."""
    weights = engine._strategy.weights.items()
    return {name: w.grad.clone() for name, w in weights if w.grad is not None}


def clear(engine: SessionEngine) -> None:
    """Drop the gradients that wait, without a step."""
    engine._strategy.optimizer.zero_grad()
    engine._is_mean = None


def datum(tokens: list[int], number: int = 0) -> dict[str, Any]:
    """Return an example whose values differ from token to token, a third of them without a weight."""
    count = len(tokens) - 1
    generator = torch.Generator().manual_seed(number)
    draw = torch.rand((3, count), generator=generator)
    return {
        "tokens": tokens[:-1],
        "targets": tokens[1:],
        "weights": [0.0 if i % 3 == 0 else float(draw[0, i]) for i in range(count)],
        "advantages": (draw[1] * 4 - 2).tolist(),
        "logprobs": (-5.5 - draw[2]).tolist(),
    }


def request(data: list[dict[str, Any]], loss: str = "cross_entropy") -> dict[str, Any]:
    return {"data": data, "loss_fn": loss, "loss_fn_config": LOSSES[loss]}


def reference_loss(loss: str, p: torch.Tensor, item: dict[str, Any]) -> torch.Tensor:
    """Return the loss as one would write it from its definition."""
    weights, advantages, sampled = (
        torch.tensor(item[name]) for name in ("weights", "advantages", "logprobs")
    )
    ratio = torch.exp(p) / torch.exp(sampled)
    if loss == "cross_entropy":
        values = -p
    elif loss == "importance_sampling":
        values = -ratio * advantages
    elif loss == "ppo":
        values = -torch.minimum(ratio * advantages, torch.clip(ratio, 0.9, 1.05) * advantages)
    elif loss == "cispo":
        values = -(torch.clip(ratio, 0.9, 1.05).detach() * advantages * p)
    else:
        tau = torch.tensor([1.5 if a > 0 else 2.0 for a in item["advantages"]])
        values = -(4.0 / tau) / (1 + torch.exp(-tau * (ratio - 1))) * advantages
    return (weights * values).sum()


@pytest.fixture(scope="module")
def engine(base: BaseWeights, tmp_path_factory: pytest.TempPathFactory) -> SessionEngine:
    """Return an engine whose adapter has been trained for a step, so that both its matrices matter."""
    engine = engine_of(base, tmp_path_factory.mktemp("session"))
    engine.forward_backward(request([datum([5, 9, 30, 31, 32, 7])]))
    engine.optim_step(ADAM)
    return engine


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradients_equal_plain_torch(engine: SessionEngine, loss: str) -> None:
    data = [datum([5, 9, 30, 31, 32, 7, 11], 1), datum([40, 41, 42, 43], 2)]
    weights = engine._strategy.weights
    clear(engine)
    result = engine.forward_backward(request(data, loss))
    gradients = gradients_of(engine)
    clear(engine)

    from maas_client.local.training.attention import standard_attention

    expected = torch.zeros(())
    with standard_attention(engine._causal):
        for item, logprobs in zip(data, result["logprobs"], strict=True):
            logits = engine._causal(input_ids=torch.tensor([item["tokens"]])).logits[0]
            p = logits.log_softmax(-1).gather(1, torch.tensor(item["targets"])[:, None])[:, 0]
            assert logprobs == pytest.approx(p.tolist(), abs=1e-5)
            expected = expected + reference_loss(loss, p, item)
        torch.autograd.backward(expected)
    assert result["total_loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert len(gradients) == len(weights)
    scale = max(float(g.abs().max()) for g in gradients.values())
    for name, weight in weights.items():
        assert weight.grad is not None
        # both sides round: each is up to 1.1e-6 from the same gradients in float64
        assert float((weight.grad - gradients[name]).abs().max()) <= 2e-6 * max(1.0, scale), name
    clear(engine)


def test_forward_leaves_gradients_alone(engine: SessionEngine) -> None:
    result = engine.forward(request([datum([5, 9, 30])]))
    assert result["total_loss"] is None
    with pytest.raises(InvalidRequestError, match="no gradients"):
        engine.optim_step(ADAM)


def test_failed_request_leaves_gradients_as_they_were(engine: SessionEngine) -> None:
    engine.forward_backward(request([datum([5, 9, 30])]))
    before = gradients_of(engine)
    bad = {**datum([5, 9, 30]), "logprobs": [-1e9, -1e9]}
    with pytest.raises(InvalidRequestError, match="not a finite number"):
        engine.forward_backward(request([bad], "importance_sampling"))
    after = gradients_of(engine)
    assert before
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())
    clear(engine)


def test_sums_and_normalised_losses_are_not_added(engine: SessionEngine) -> None:
    engine.forward_backward(request([datum([5, 9, 30])], "importance_sampling"))
    engine.forward_backward(request([datum([5, 9, 30])]))
    before = gradients_of(engine)
    with pytest.raises(InvalidRequestError, match="Send optim_step first"):
        engine.forward_backward(request([datum([5, 9, 30])], "cispo"))
    after = gradients_of(engine)
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())
    clear(engine)
    engine.forward_backward(request([datum([5, 9, 30])], "cispo"))
    clear(engine)


def sample_request(**changes: Any) -> dict[str, Any]:
    params = {"max_tokens": 12, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "seed": 4}
    return {
        "checkpoint_id": "s",
        "prompt": [5, 9, 30, 31],
        "num_samples": 3,
        "prompt_logprobs": True,
        "topk_prompt_logprobs": 3,
        "params": params | changes,
    }


def test_sampled_logprobs_equal_the_forward_pass(engine: SessionEngine) -> None:
    engine.save_sampler({"checkpoint_id": "s", "persist": False})
    result = engine.sample(sample_request(temperature=0.7, top_p=0.95, top_k=200))
    again = engine.sample(sample_request(temperature=0.7, top_p=0.95, top_k=200))
    assert result["sequences"] == again["sequences"]
    assert len({tuple(s["tokens"]) for s in result["sequences"]}) > 1
    for sequence in result["sequences"]:
        tokens = [5, 9, 30, 31, *sequence["tokens"]]
        (logprobs,) = engine.forward(request([datum(tokens)]))["logprobs"]
        assert sequence["logprobs"] == pytest.approx(logprobs[3:], abs=1e-4)
        assert result["prompt_logprobs"][0] is None
        assert result["prompt_logprobs"][1:] == pytest.approx(logprobs[:3], abs=1e-4)
    assert [len(entry) for entry in result["topk_prompt_logprobs"][1:]] == [3, 3, 3]


def test_sampling_stops_at_ids_and_texts(engine: SessionEngine) -> None:
    engine.save_sampler({"checkpoint_id": "s", "persist": False})
    greedy = engine.sample(sample_request(temperature=0.0))["sequences"][0]
    stop = greedy["tokens"][2]
    by_id = engine.sample(sample_request(temperature=0.0, stop_criteria=[stop]))["sequences"][0]
    assert by_id["tokens"] == greedy["tokens"][: greedy["tokens"].index(stop) + 1]
    text = by_id["text"]
    by_text = engine.sample(sample_request(temperature=0.0, stop_criteria=[text]))["sequences"][0]
    assert by_text["text"] == text


@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_smallest_temperature_and_top_p_sample_the_likeliest_tokens(
    engine: SessionEngine, name: str
) -> None:
    engine.save_sampler({"checkpoint_id": "s", "persist": False})
    greedy = engine.sample(sample_request(temperature=0.0))["sequences"]
    assert engine.sample(sample_request(**{name: 1e-300}))["sequences"] == greedy


def test_weights_that_are_too_large_are_reported(base: BaseWeights, tmp_path: Path) -> None:
    engine, item = engine_of(base, tmp_path), datum([5, 9, 30])
    engine.forward_backward(request([item]))
    engine.optim_step({**ADAM, "learning_rate": 1e38})
    engine.save_sampler({"checkpoint_id": "s", "persist": False})
    for call in (
        lambda: engine.forward(request([{**item, "weights": [0.0, 0.0]}])),
        lambda: engine.sample(sample_request()),
        lambda: engine.sample(sample_request(temperature=0.0)),
    ):
        with pytest.raises(InvalidRequestError, match="smaller learning_rate"):
            call()


def test_sampler_checkpoint_keeps_its_weights(base: BaseWeights, tmp_path: Path) -> None:
    engine, data = engine_of(base, tmp_path), [datum([5, 9, 30, 31, 32, 7])]
    engine.save_sampler({"checkpoint_id": "s", "persist": True})
    before = engine.sample(sample_request(temperature=0.0))
    for _ in range(3):
        engine.forward_backward(request(data))
        engine.optim_step({**ADAM, "learning_rate": 0.05})
    after_training = engine.forward(request(data))["logprobs"]
    engine._snapshots.clear()  # reads the adapter from disk
    assert engine.sample(sample_request(temperature=0.0))["prompt_logprobs"] == pytest.approx(
        before["prompt_logprobs"]
    )
    assert engine.forward(request(data))["logprobs"] == after_training


def test_resumed_session_continues_to_the_same_weights(base: BaseWeights, tmp_path: Path) -> None:
    def steps(engine: SessionEngine, count: int) -> None:
        for number in range(count):
            engine.forward_backward(request([datum([5, 9, 30, 31, 32, 7], number)], "ppo"))
            engine.optim_step(ADAM)

    first = engine_of(base, tmp_path)
    steps(first, 2)
    first.save_checkpoint({"checkpoint_id": "two", "extra": {}})
    steps(first, 2)
    resumed = engine_of(
        base,
        tmp_path / "b",
        resume=str(tmp_path / "training" / "two"),
        lora_config={"rank": 8, "alpha": 16, "seed": 8},
    )
    assert resumed.step == 2
    steps(resumed, 2)
    for name, weight in first._strategy.weights.items():
        assert torch.equal(weight, resumed._strategy.weights[name])


@pytest.mark.parametrize("threads", [1, 2])
def test_session_gives_the_bytes_of_a_job(
    threads: int, base: BaseWeights, examples: list[Example], data: Data, tmp_path: Path
) -> None:
    settings = {
        "lora_r": 8, "lora_alpha": 16, "seed": 7, "batch_size": 4, "epochs": 1, "learning_rate": 1e-3,
        "lr_scheduler_type": "constant", "weight_decay": 0.0, "adam_beta1": 0.9, "adam_beta2": 0.95,
        "adam_epsilon": 1e-12, "max_grad_norm": 0.0,
    }  # fmt: skip
    job = run_job(spec(base, data, tmp_path / "job", settings, threads=threads))
    assert job[-1]["event"] == "done"
    engine = engine_of(base, tmp_path / "session")
    order = epoch_order(12, seed=7, epoch=0)
    for start in range(0, 12, 4):
        batch = [examples[index] for index in order[start : start + 4]]
        share = 1.0 / sum(example.learned_tokens for example in batch)
        rows = [
            {
                "tokens": example.input_ids,
                "targets": [*example.input_ids[1:], 0],
                "weights": [share if mask else 0.0 for mask in [*example.loss_mask[1:], False]],
                "advantages": [0.0] * example.tokens,
                "logprobs": [0.0] * example.tokens,
            }
            for example in batch
        ]
        engine.forward_backward(request(rows))
        engine.optim_step(ADAM)
    engine.save_sampler({"checkpoint_id": "final", "persist": True})
    name = "adapter_model.safetensors"
    (adapter,) = (tmp_path / "job").rglob(f"adapter/{name}")
    saved = tmp_path / "session" / "sampler" / "final" / name
    assert saved.read_bytes() == adapter.read_bytes(), asdict(base)


def test_session_of_an_int8_server_computes_in_float32(base: BaseWeights, tmp_path: Path) -> None:
    """Takes some seconds: a server starts, and the process of its session."""
    tokens = [5, 9, 30, 31, 32, 7]
    example = maas.TrainingExample.from_tokens(tokens[:3], tokens[3:])
    with (
        serve(base=base.folder, engine="peft", device="cpu", precision="int8", state_dir=tmp_path) as server,
        maas.Client.local(url=server.url) as client,
        client.sessions.create("Phi-4-mini-instruct", lora_rank=4, seed=7) as session,
    ):  # fmt: skip
        (actual,) = client.sessions.forward(session, [example]).logprobs
    (expected,) = engine_of(base, tmp_path).forward(request([datum(tokens)]))["logprobs"]
    assert list(actual) == pytest.approx(expected, abs=1e-6)
