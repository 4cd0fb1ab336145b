"""Learning-rate factors as pure functions of progress in [0, 1]: a run that is resumed with more epochs just stretches."""

import math

from rpe.structures import UserError


def poly(progress: float, power: float) -> float:
    """(1 - progress)^power; the authors' power is 0.9.

    Raises:
        UserError: a negative power.
    """
    if power < 0:
        raise UserError(f"schedule.power {power} is negative: the rate would grow without bound")
    return (1 - min(progress, 1.0)) ** power


def one_cycle(progress: float, warmup: float, start: float, end: float) -> float:
    """From `start` to 1 within the share `warmup`, then to `end`, by half cosines (Smith and Topin, 2018, without momentum).

    Raises:
        UserError: a warmup outside [0, 1), or a factor outside [0, 1].
    """
    if not 0 <= warmup < 1:
        raise UserError(
            f"schedule.warmup {warmup} is outside [0, 1): it is the share of the training in which the rate rises"
        )
    for name, factor in (("start", start), ("end", end)):
        if not 0 <= factor <= 1:
            raise UserError(f"schedule.{name} {factor} is outside [0, 1]: it is a share of optimizer.lr")
    if progress < warmup:
        return 1 + (start - 1) * (1 + math.cos(math.pi * progress / warmup)) / 2
    along = min((progress - warmup) / (1 - warmup), 1.0)
    return end + (1 - end) * (1 + math.cos(math.pi * along)) / 2


def constant(progress: float) -> float:
    """1, always."""
    return 1.0
