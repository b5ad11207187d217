"""Upsampling in every mode, grid sampling, affine grids, and their gradients."""
