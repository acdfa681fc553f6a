"""Fine-tune Phi-3-mini, Phi-3-medium and Phi-3-small on this machine and chat with them.

Azure retired every Phi-3 model on 2025-08-30. There, each of these jobs is rejected before the upload, and
the error names the replacement. The local server still runs them: on their own weights if they are present,
else on a stand-in, which the job names.

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
