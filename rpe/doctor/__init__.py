"""`python -m rpe.doctor data=<data> data.root=<folder>`: one page on a dataset before training."""
