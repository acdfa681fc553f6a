"""Train on preferences (DPO): which of two answers is better.

maas-client serve                                 # in another terminal
python examples/04_preferences.py
"""

import json
from pathlib import Path

import maas_client as maas

DATA = Path(__file__).parent / "data"


def make_preferences() -> list[dict[str, object]]:
    """Prefer the answers of the training data to a refusal."""
    rows = []
    for line in (DATA / "train.jsonl").read_text(encoding="utf-8").splitlines()[:64]:
        *question, answer = json.loads(line)["messages"]
        refusal = {"role": "assistant", "content": "I cannot answer that."}
        rows.append(
            {
                "input": {"messages": question},
                "preferred_output": [answer],
                "non_preferred_output": [refusal],
            }
        )
    return rows


def main() -> None:
    with maas.Client.from_env() as client:
        rows = make_preferences()
        report = maas.validate(rows, method="DPO", target="local")
        print(report.files[0].examples, "preferences,", len(report.errors), "errors")

        # On Azure: Client.foundry(...) with model="gpt-4.1-mini".
        job = client.jobs.create(
            "Phi-4-mini-instruct",
            training_data=rows,
            method="DPO",
            beta=0.1,
            hyperparameters=maas.Hyperparameters(epochs=1, batch_size=8, learning_rate=1e-3),
        )
        client.jobs.wait(job)
        for event in client.jobs.events(job):
            if "train_reward_margin" in event.metrics:
                accuracy, margin = (
                    event.metrics[f"train_reward_{n}"] for n in ("accuracy", "margin")
                )
                print(f"step {event.step}: accuracy {accuracy:.2f}, margin {margin:.3f}")


if __name__ == "__main__":
    main()
