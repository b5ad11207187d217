"""Torch's own decompositions that we choose on purpose."""
