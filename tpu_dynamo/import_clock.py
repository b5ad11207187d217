"""The time at which the backend's import begins: imported before everything else that the backend needs."""

from time import perf_counter

BEGUN = perf_counter()
