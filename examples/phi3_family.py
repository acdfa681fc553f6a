"""Phi-3-mini, Phi-3-medium and Phi-3-small, from a file to an answer on this machine.

Azure retired every Phi-3 on 2025-08-30: there, each of these jobs is refused before anything is
uploaded, with the model that replaces it. The local server still runs them, on their own weights where
it has them and on a stand-in, which it names, where it has not.

maas-client serve                                 # in another terminal
python examples/phi3_family.py
"""

from pathlib import Path

import maas_client as maas

DATA = Path(__file__).parent / "data"
FAMILY = {"Phi-3-mini": "mini", "Phi-3-medium": "medium", "Phi-3-small": "small"}
QUESTION = {"role": "user", "content": "What does error E11 mean?"}


def main() -> None:
    with maas.Client.from_env() as client:
        for model, name in FAMILY.items():
            result = client.fine_tune(
                DATA / "train.jsonl",
                model,
                validation_data=DATA / "validation.jsonl",
                hyperparameters={"epochs": 1, "batch_size": 16},
                deploy=name,
            )
            reply = client.chat.complete(result.deployment, [QUESTION], max_tokens=64)
            base = result.job.properties.get("maas_client.base", "Azure")
            print(f"{model} on {base}, {result.job.status}: {reply.choices[0].message.content}")
            client.deployments.delete(result.deployment)


if __name__ == "__main__":
    main()
