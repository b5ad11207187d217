"""Padding by reflection, replication and wrapping, im2col and col2im, and their gradients."""
