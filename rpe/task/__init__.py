"""LightningModules: what a step, a validation and a result are for each task."""
