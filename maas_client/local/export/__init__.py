"""Models that travel: out as an adapter, merged, or for ONNX Runtime; in from a folder.

Everything written is read back and compared before it appears under its name, with a manifest of
hashes, a model card, and the base's licence. Torch is imported by the modules that need it, when they
are used; importing the package loads none of it.
"""
