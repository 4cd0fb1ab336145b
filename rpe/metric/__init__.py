"""Compute metrics from the truth and the results: pure functions."""
