"""Lightning modules: the training step, the validation and the result of each task."""
