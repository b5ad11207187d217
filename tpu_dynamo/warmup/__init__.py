"""Filling the compile cache before a job starts: manifests, cases, workers; see docs/warmup.md."""
