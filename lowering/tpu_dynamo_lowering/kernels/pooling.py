"""Pooling of every rank, adaptive and with indices, unpooling, and their gradients."""
