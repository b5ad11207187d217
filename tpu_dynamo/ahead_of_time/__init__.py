"""A model's graphs without running it: captured on fake tensors, counted, and compiled for chips that are not there."""
