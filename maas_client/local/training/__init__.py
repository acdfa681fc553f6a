"""Local training with torch: rows to token ids, to packed batches, to an adapter.

Its modules import torch and run in worker processes only. Importing the package loads none of them.
"""
