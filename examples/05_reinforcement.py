"""Teach the base `tiny` to add two digits by reinforcement, in a session on this machine.

    python examples/05_reinforcement.py          # about two minutes on two cores

`tiny` has random weights, so that reinforcement alone would wait long for a first reward. Some supervised steps on
random digits teach it to answer with a digit at all; which digit is right it learns from rewards alone.
"""

import random
import sys

import maas_client as maas
from maas_client import local

DIGITS = range(4)
LR = 1e-3
rng = random.Random(1)


def to_tokens(text: str) -> list[int]:
    """`tiny` reads bytes. For another base, use its own tokenizer."""
    return list(text.encode())


def main(warm_up: int = 40, steps: int = 150) -> list[float]:
    """Return the share of right answers of each step of reinforcement."""
    shares = []
    problems = [(f"{a}+{b}=", a + b) for a in DIGITS for b in DIGITS]
    prompts = {text: to_tokens(text) for text, _ in problems}
    with local.serve(base="tiny", device="cpu") as server, server.client() as client:
        sessions = client.sessions
        with sessions.create("Phi-4-mini-instruct", lora_rank=16, seed=1) as session:
            for _ in range(warm_up):
                examples = [
                    maas.TrainingExample.from_tokens(prompts[text], to_tokens(str(total)))
                    for text, total in problems
                ]
                sessions.forward_backward(session, examples)
                sessions.optim_step(session, learning_rate=3e-3)
            for step in range(steps):
                sampler = sessions.save(session, f"step-{step}", kind="sampler")
                examples, right = [], 0
                for text, total in rng.sample(problems, 8):
                    sampled = sessions.sample(session, prompts[text], checkpoint=sampler, max_tokens=1, num_samples=8)
                    rewards = [float(list(s.tokens) == to_tokens(str(total))) for s in sampled.sequences]
                    right += sum(rewards)
                    mean = sum(rewards) / len(rewards)
                    for sequence, reward in zip(sampled.sequences, rewards, strict=True):
                        examples.append(maas.TrainingExample.from_tokens(
                            prompts[text], sequence.tokens, advantage=reward - mean, logprobs=sequence.logprobs))
                sessions.forward_backward(session, examples, loss="importance_sampling")
                sessions.optim_step(session, learning_rate=LR)
                shares.append(right / len(examples))
                print(f"step {step + 1:3d} {shares[-1]:4.0%} {'#' * round(40 * shares[-1])}")
    return shares


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
