"""Train a run, or one job of a sweep."""

from rpe.sweep.job import train

__all__ = ["train"]
