"""Fine-tune a model and chat with it, step by step.

MAAS_BACKEND=local                                # the default; or azureml
python examples/02_fine_tune_and_chat.py
"""

from pathlib import Path

import maas_client as maas

DATA = Path(__file__).parent / "data"
QUESTION = {"role": "user", "content": "What does error E11 mean?"}


def main() -> None:
    with maas.Client.from_env() as client:
        dataset = client.datasets.upload(DATA / "train.jsonl")
        validation = client.datasets.upload(DATA / "validation.jsonl")

        # The same call again (after a crash, for example) attaches to this job and starts no other.
        job = client.jobs.create(
            "Phi-4-mini-instruct",
            training_data=dataset,
            validation_data=validation,
            hyperparameters=maas.Hyperparameters(epochs=1, batch_size=8),
        )
        for event in client.jobs.events(job):
            if event.type == "status" or "valid_loss" in event.metrics:
                print(event.message)
        job = client.jobs.wait(job)  # raises JobFailedError if the job failed

        # On Azure a deployment costs by the hour until it is deleted; `with` deletes it on exit.
        with client.deployments.create("error-codes", job) as deployment:
            for chunk in client.chat.stream(deployment, [QUESTION], max_tokens=64):
                if chunk.choices:
                    print(chunk.choices[0].delta.content or "", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
