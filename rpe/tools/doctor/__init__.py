"""Examine a dataset before training: `python -m rpe.tools.doctor data=<data> data.root=<folder>`."""
