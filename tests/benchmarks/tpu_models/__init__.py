"""Models written in JAX, each in several phrasings, beside the PyTorch models that they are compared with."""
