"""Quantised and scaled matrix products, fake quantisation."""
