"""A small application: it fine-tunes a model once and answers customers with it.

The environment (``MAAS_BACKEND`` and the other settings) decides whether it runs on Azure or on this machine.
``test_support_bot.py`` tests it offline.
"""

import sys
from pathlib import Path

import maas_client as maas

DEPLOYMENT = "support"


def prepare(training_file: Path) -> str:
    """Fine-tune and deploy the support model if that is not done yet, and return the job's name."""
    with maas.Client.from_env() as client:
        result = client.fine_tune(training_file, "Phi-4-mini-instruct", deploy=DEPLOYMENT)
        return result.job.name


def answer(question: str) -> str:
    """Answer a customer, or apologize if the model cannot be reached."""
    with maas.Client.from_env() as client:
        try:
            reply = client.chat.complete(
                DEPLOYMENT, [{"role": "user", "content": question}], max_tokens=64
            )
        except maas.MaasError as error:
            print(f"support bot: {error}", file=sys.stderr)
            return "Our assistant is not available. Please write to support@example.com."
        return reply.choices[0].message.content or ""


if __name__ == "__main__":
    prepare(Path(__file__).parent / "data" / "train.jsonl")
    print(answer(" ".join(sys.argv[1:]) or "What does error E11 mean?"))
