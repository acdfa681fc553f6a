"""A chat and its parts in several notations, for the tests of formats."""

from __future__ import annotations

Q, A = "Where does the ferry leave?", "From pier four, at noon."
CHAT = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]
SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Ahoy."}]
TURNS = [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]
FUNCTION = {
    "name": "tide",
    "description": "Height.",
    "parameters": {"type": "object", "properties": {}},
}
TOOL = {"type": "function", "function": FUNCTION}
