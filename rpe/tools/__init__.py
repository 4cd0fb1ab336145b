"""Commands beside train, evaluate and predict: `python -m rpe.tools.<name> key=value ...`."""
