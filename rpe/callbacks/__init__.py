"""Provide Lightning callbacks and loggers: progress, metrics, checkpoints, pictures."""
