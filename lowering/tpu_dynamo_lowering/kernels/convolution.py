"""Convolutions of every rank, transposed, grouped and dilated, and their gradients."""
