"""Operators of users' own: JAX functions as operators of PyTorch, and lowerings for other libraries' operators."""
