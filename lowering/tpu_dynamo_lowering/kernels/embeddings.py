"""Embedding tables: bags of rows and the gradients of look-ups."""
