"""Train a run, or one job of a sweep: skipped where it is finished, resumed from its last checkpoint, or begun."""

from rpe.sweep.point import train

__all__ = ["train"]
