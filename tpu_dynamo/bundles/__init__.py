"""Repro bundles: a model's graphs, and how far they get, in one file that another machine replays."""
