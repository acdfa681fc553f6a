"""Eight concurrent streams with the official openai client, over a real socket."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
openai = pytest.importorskip("openai")

from maas_client.local.embedded_server import serve  # noqa: E402 - after the skips
from tests.local.generate.conftest import BaseUnderTest, run_until_done  # noqa: E402

USERS = 8


def stream(client: Any, text: str, tokens: int) -> tuple[str, str, int]:
    """Return the concatenated answer, its finish reason, and the number of pieces."""
    pieces, reason = [], ""
    for chunk in client.chat.completions.create(
        model="any", messages=[{"role": "user", "content": text}], max_tokens=tokens,
        temperature=0, stream=True,
    ):  # fmt: skip
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            reason = choice.finish_reason or reason
    return "".join(pieces), reason, len(pieces)


@pytest.mark.slow
def test_eight_concurrent_streams_match_single_requests(
    endless: BaseUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAAS_CACHE_DIR", str(tmp_path))
    texts = ["x" * (3 * n) for n in range(USERS)]
    with serve(base=str(endless.folder)) as server, server.client() as client:
        deployment = client.deployments.create("base", model="Phi-3-mini-4k-instruct")
        keys = client.deployments.keys(deployment)
        users = openai.OpenAI(
            base_url=f"{deployment.url}/v1", api_key=keys.primary.get_secret_value()
        )
        with users, ThreadPoolExecutor(USERS) as pool:
            answers = list(pool.map(lambda n: stream(users, texts[n], 20 + n), range(USERS)))
    scheduler = endless.scheduler()
    for n, (text, reason, pieces) in enumerate(answers):
        chat = endless.chat(texts[n], max_tokens=20 + n)
        scheduler.submit(chat)
        want = run_until_done(scheduler)[chat.id]
        assert (text, reason) == (want["text"], "length")
        assert pieces > 3, "it comes in pieces"
