"""Figures: pure functions of truth and results."""
