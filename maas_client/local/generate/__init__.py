"""Answering: one process, the base loaded once, many adapters over it, all streams in one batch.

``python -m maas_client.local.generate`` speaks JSON lines (``protocol``). Its way, top to bottom:

    process    stdin and stdout; the loop that joins requests between steps
    engine     bases and adapters in memory, who waits, who is in the batch, who has gone idle
    batch      rows that are decoded together, one token each per step
    cache      their keys and values, padded on the left
    weights    a base from safetensors; linear layers packed for this CPU, adapters over them
    sampling   the next token of one row
    text       tokens to text that can be sent: whole characters, nothing of a stop string

Only this room and ``local/peft`` import torch. Importing the package itself loads none of it.
"""
