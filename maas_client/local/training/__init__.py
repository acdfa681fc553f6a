"""Training with torch: segments to ids, to packed batches, through ``train``, to an adapter.

Nothing is imported here. The modules of this room import torch and run in a worker process only.
"""
