"""``azure-ai-finetuningsessions``, unmodified, against a local server that trains the tiny base."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from maas_client import local

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="sessions need torch")
sdk: Any = pytest.importorskip("azure.ai.finetuningsessions")
aio: Any = pytest.importorskip("azure.ai.finetuningsessions.aio")
transports: Any = pytest.importorskip("azure.core.pipeline.transport")
credentials: Any = pytest.importorskip("azure.core.credentials")
exceptions: Any = pytest.importorskip("azure.core.exceptions")
models: Any = pytest.importorskip("azure.ai.finetuningsessions.models")

MODEL, TOKENS = "Phi-4-mini-instruct", [5, 9, 30, 31, 32, 7]
OVERFLOW = (
    r"prompt tokens \(\d+\) \+ max_tokens \(\d+\) = \d+ exceeds the maximum context length \(4096\)"
)
"""Microsoft's recipes read these numbers, and sample again with fewer tokens."""
PREVIEW: dict[str, Any] = {
    "foundry_features": "FineTuningSessions=V1Preview",
    "api_version": "v1",
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with local.serve(base="tiny", device="cpu", threads=1) as server:
        yield f"{server.url}/api/projects/birds"


@pytest.fixture(scope="module")
def client(endpoint: str) -> Iterator[Any]:
    with sdk.FineTuningSessionClient(
        endpoint, credentials.AzureKeyCredential("any"), allow_insecure_http=True
    ) as client:
        yield client


@pytest.fixture(scope="module")
def session(client: Any) -> Iterator[Any]:
    lora = models.LoRAConfig(rank=8, seed=3)
    session = sdk.FineTuningSession.create(
        client, base_model=MODEL, lora_config=lora, user_metadata={"run": 1}
    )
    yield session
    session.close()


def adam(rate: float = 1e-3) -> Any:
    return models.AdamParams(learning_rate=rate, beta1=0.9, beta2=0.95, eps=1e-12, weight_decay=0.0)


def datum(tokens: list[int], **columns: list[float]) -> Any:
    """Return an example whose weights are 1, or which has ``columns``."""
    count = len(tokens) - 1
    columns = {"weights": [1.0] * count} | columns
    return models.Datum(
        model_input=models.ModelInput(chunks=[models.ModelInputChunk(tokens=tokens[:-1])]),
        loss_fn_inputs=models.LossFnInputs(
            target_tokens=models.TensorData(data=columns.pop("target_tokens", tokens[1:])),
            **{name: models.TensorData(data=values) for name, values in columns.items()},
        ),
    )


def params(**changes: Any) -> Any:
    values = {"max_tokens": 6, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "seed": 1}
    return models.SamplingParams(**(values | changes))


def test_supervised_loop(session: Any) -> None:
    losses = []
    for step in range(3):
        losses.append(session.forward_backward([datum(TOKENS)]).total_loss)
        result = session.optim_step(adam(1e-2))
        assert result.step_count == step + 1
        assert result.grad_norm > 0
    assert losses[2] < losses[1] < losses[0]
    forward = session.forward([datum(TOKENS)])
    assert forward.total_loss is None
    (logprobs,) = forward.per_datum_logprobs
    assert -sum(logprobs.data) < losses[2]


def test_reinforcement_loop(session: Any) -> None:
    saved = session.save_weights_for_sampler(seq_id=1, sampling_session_seq_id=0)
    assert saved.checkpoint_id == "ss0_seq1"
    result = session.sample(
        TOKENS, params(), checkpoint_id=saved.checkpoint_id, seq_id=1, num_samples=3,
        prompt_logprobs=True, topk_prompt_logprobs=2,
    )  # fmt: skip
    assert len(result.sequences) == 3
    assert result.prompt_tokens == len(result.prompt_logprobs) == len(TOKENS)
    assert result.topk_prompt_logprobs[0] is None
    batch = []
    for number, sequence in enumerate(result.sequences):
        assert len(sequence.tokens) == len(sequence.logprobs) <= 6
        before, count = len(TOKENS) - 1, len(sequence.tokens)
        columns = {
            "logprobs": [0.0] * before + sequence.logprobs,
            "advantages": [0.0] * before + [number - 1.0] * count,
        }
        batch.append(datum(TOKENS + sequence.tokens, **columns))
    with_weights = session.forward_backward(batch, loss_fn="importance_sampling").total_loss
    for item in batch:  # Microsoft's recipes send no weights for these losses
        del item.loss_fn_inputs["weights"]
    for loss in ("importance_sampling", "ppo", "cispo", "sapo"):
        result = session.forward_backward(batch, loss_fn=loss)
        assert len(result.loss_fn_outputs) == 3
        if loss == "importance_sampling":
            assert result.total_loss == with_weights
            assert result.total_loss != 0
            with pytest.raises(sdk.RequestValidationError, match="Send optim_step first"):
                session.forward_backward(batch, loss_fn="ppo")
            assert session.optim_step(adam(0.0)).grad_norm > 0
    assert session.optim_step(adam(0.0)).grad_norm > 0


def test_sessions_and_checkpoints_are_listed(client: Any, session: Any) -> None:
    session.save_weights("listed")
    session.save_weights_for_sampler(seq_id=5, path="listed")  # as Microsoft's recipes do
    listed = client.checkpoints.list(session.session_id, **PREVIEW).checkpoints
    saved = sorted((entry.checkpoint_id, entry.checkpoint_type) for entry in listed)
    assert saved == [("listed", "sampler"), ("listed", "training")]  # not those in memory
    info = client.checkpoints.get(session.session_id, "listed", **PREVIEW)
    assert (info.base_model, info.is_lora, info.lora_rank) == (MODEL, True, 8)
    found = client.sessions.get(session.session_id, **PREVIEW)
    assert (found.status, found.model_data.model_name) == ("running", "tiny")
    assert found.model_data.lora_config.alpha == 32.0
    page = client.sessions.list(**PREVIEW, limit=1, offset=0)
    assert (len(page.data), page.cursor.limit) == (1, 1)
    assert session.heartbeat().session_id == session.session_id
    with pytest.raises(
        exceptions.HttpResponseError, match="already has a training checkpoint listed"
    ):
        session.save_weights("listed")
    with pytest.raises(
        exceptions.HttpResponseError, match="already has a sampler checkpoint listed"
    ):
        session.save_weights_for_sampler(seq_id=6, path="listed")


@pytest.mark.slow
async def test_async_client_continues_a_checkpoint(endpoint: str, session: Any) -> None:
    session.save_weights("for-async")
    (expected,) = session.forward([datum(TOKENS)]).per_datum_logprobs
    async with aio.FineTuningSessionClient(
        endpoint,
        credentials.AzureKeyCredential("any"),
        allow_insecure_http=True,
        transport=transports.AsyncioRequestsTransport(),  # its default transport needs aiohttp
    ) as client:
        resumed = await client.create_session_from_checkpoint(
            checkpoint_path=f"{session.session_id}/for-async",
            base_model=MODEL,
            lora_config=models.LoRAConfig(rank=8),
        )
        (logprobs,) = (await client.forward(resumed, [datum(TOKENS)])).per_datum_logprobs
        assert logprobs.data == expected.data
        gradients = await client.forward_backward_async(resumed, [datum(TOKENS)] * 2)
        step = await client.optim_step_async(resumed, adam())  # sent before the first is finished
        assert (await gradients).total_loss > 0
        assert (await step).step_count >= 1
        kept = await (await client.save_weights_and_get_sampling_client_async(resumed, "step1"))
        sampled = await client.sample(resumed, TOKENS, params(), checkpoint_id=kept.checkpoint_id)
        assert len(sampled.sequences) == 1
        stored = await (await client.save_weights_for_sampler_async(resumed, "final"))
        assert stored.checkpoint_id == "final"
        unloaded = await client.sessions.begin_unload(resumed, **PREVIEW)
        await unloaded.result()
        assert (await client.sessions.get(resumed, **PREVIEW)).status == "succeeded"
        with pytest.raises(exceptions.HttpResponseError, match="it was completed"):
            await client.forward(resumed, [datum(TOKENS)])
        await client.delete_session(resumed)
        await client.delete_session(resumed)  # 404 counts as done


REFUSED_BATCHES: dict[str, tuple[dict[str, list[float]], dict[str, Any], str]] = {
    "token": ({"target_tokens": [99999.0] * 5}, {}, "has the token 99999, and the base tiny"),
    "fraction": ({"target_tokens": [1.5] * 5}, {}, "no token id"),
    "lengths": ({"weights": [1.0]}, {}, "1 values for 5 tokens"),
    "loss": ({}, {"loss_fn": "dro"}, "loss_fn"),
    "advantages": ({}, {"loss_fn": "ppo"}, "needs advantages"),
    "logprobs": ({"advantages": [1.0] * 5}, {"loss_fn": "sapo"}, "needs logprobs"),
    "config of another loss": (
        {"advantages": [1.0] * 5, "logprobs": [-1.0] * 5},
        {"loss_fn": "ppo", "loss_fn_config": {"tau_pos": 1.0}},
        "ppo does not use loss_fn_config.tau_pos",
    ),
    "unknown config": ({}, {"loss_fn_config": {"beta": 1.0}}, "beta"),
    "thresholds": (
        {"advantages": [1.0] * 5, "logprobs": [-1.0] * 5},
        {"loss_fn": "ppo", "loss_fn_config": {"clip_low_threshold": 2.0}},
        "above clip_high_threshold",
    ),
    "large setting": (
        {"advantages": [1.0] * 5, "logprobs": [-1.0] * 5},
        {"loss_fn": "sapo", "loss_fn_config": {"tau_neg": 1e300}},
        "tau_neg must be from",
    ),
}


@pytest.mark.parametrize("case", REFUSED_BATCHES)
def test_bad_batches_are_refused_by_name(session: Any, case: str) -> None:
    columns, options, message = REFUSED_BATCHES[case]
    with pytest.raises(sdk.RequestValidationError, match=message):
        session.forward_backward([datum(TOKENS, **columns)], **options)


def test_large_batches_and_contexts_are_refused(session: Any) -> None:
    with pytest.raises(sdk.RequestValidationError, match="tokens, and the base tiny has a context"):
        session.forward([datum([1] * 10_000)])
    saved = session.save_weights_for_sampler(seq_id=9, sampling_session_seq_id=0)
    with pytest.raises(sdk.RequestValidationError, match=OVERFLOW):
        session.sample(TOKENS, params(max_tokens=99_999), checkpoint_id=saved.checkpoint_id)
    with pytest.raises(sdk.RequestValidationError, match="saved with seq_id 9"):
        session.sample(TOKENS, params(), checkpoint_id=saved.checkpoint_id, seq_id=8)
    with pytest.raises(exceptions.HttpResponseError, match="no sampler checkpoint"):
        session.sample(TOKENS, params(), checkpoint_id="absent")
    with pytest.raises(sdk.RequestValidationError, match="no gradients"):
        session.optim_step(adam())


def test_bad_sessions_are_refused(client: Any, session: Any) -> None:
    def create(**changes: Any) -> None:
        options = {"base_model": MODEL, "lora_config": models.LoRAConfig(rank=8)} | changes
        sdk.FineTuningSession.create(client, **options)

    session.save_weights("other-base")
    source = models.FromCheckpoint(source_session_id=session.session_id, checkpoint_id="other-base")
    absent = models.FromCheckpoint(source_session_id=session.session_id, checkpoint_id="../x")
    with pytest.raises(sdk.RequestValidationError, match="rank 8, and the session 4"):
        create(from_checkpoint=source, lora_config=models.LoRAConfig(rank=4))
    with pytest.raises(exceptions.HttpResponseError, match="no training checkpoint"):
        create(from_checkpoint=absent)
    with pytest.raises(sdk.RequestValidationError, match="smaller rank"):
        create(lora_config=models.LoRAConfig(rank=10_000))
    with pytest.raises(sdk.RequestValidationError, match="no-such-model"):
        create(base_model="no-such-model")
    with pytest.raises(exceptions.HttpResponseError, match="freeze_vision_tower"):
        create(lora_config=models.LoRAConfig(rank=8, freeze_vision_tower=False))
    with pytest.raises(exceptions.ResourceNotFoundError):
        client.sessions.get("session_absent", **PREVIEW)
    with pytest.raises(exceptions.HttpResponseError, match="Foundry-Features"):
        client.sessions.list(foundry_features="Evaluations=V1Preview", api_version="v1")
