"""`python -m rpe.tools.doctor data=<data> data.root=<folder>`: one page on a dataset before training."""
