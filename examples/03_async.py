"""AsyncClient: run two jobs at the same time, then ask both models a question.

python examples/03_async.py
"""

import asyncio
from pathlib import Path

import maas_client as maas

DATA = Path(__file__).parent / "data"
QUESTION = {"role": "user", "content": "What does error E11 mean?"}


async def tune_and_ask(client: maas.AsyncClient, model: str, name: str) -> str:
    result = await client.fine_tune(
        DATA / "train.jsonl",
        model,
        hyperparameters={"epochs": 1, "batch_size": 8},
        deploy=name,
    )
    async with result.deployment as deployment:
        reply = await client.chat.complete(deployment, [QUESTION], max_tokens=64)
    return f"{model}: {reply.choices[0].message.content}"


async def main() -> None:
    async with maas.AsyncClient.from_env() as client:
        answers = await asyncio.gather(
            tune_and_ask(client, "Phi-4-mini-instruct", "mini"),
            tune_and_ask(client, "Phi-4", "phi4"),
        )
    print("\n".join(answers))


if __name__ == "__main__":
    asyncio.run(main())
