"""Commands beside train, evaluate and predict: `python -m rpe.tools.<name> key=value ...`. No other room imports them."""
