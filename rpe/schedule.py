"""Learning-rate factors as pure functions of progress in [0, 1]: a run that is resumed with more epochs just stretches."""

import math


def poly(progress: float, power: float) -> float:
    """(1 - progress)^power; the authors' power is 0.9."""
    return (1 - min(progress, 1.0)) ** power


def one_cycle(progress: float, warmup: float, start: float, end: float) -> float:
    """From `start` to 1 within the share `warmup`, then to `end`, by half cosines (Smith and Topin, 2018, without momentum)."""
    if progress < warmup:
        return 1 + (start - 1) * (1 + math.cos(math.pi * progress / warmup)) / 2
    along = min((progress - warmup) / (1 - warmup), 1.0)
    return end + (1 - end) * (1 + math.cos(math.pi * along)) / 2


def constant(progress: float) -> float:
    """1, always."""
    return 1.0
