"""The answering process: loads a base once, serves many adapters on it, and batches all streams.

``python -m maas_client.local.generate`` reads and writes JSON lines (``protocol``). Its modules, from the top:

    __main__        stdin and stdout; the main loop
    engine          handles each request line; bases in memory
    scheduler       requests for one base: waiting, prefill, decoding
    batch           rows decoded together, one token each per step
    model           a base with its tokenizer and adapters
    cache           keys and values of a batch, padded on the left
    weights         a base from safetensors
    adapter_linear  linear layers packed for this CPU, with an adapter per row
    sampling        the next token of one row
    text_stream     tokens to text: whole characters, without stop strings

Importing the package does not load torch.
"""
