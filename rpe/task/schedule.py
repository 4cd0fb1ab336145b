"""Learning-rate factors as functions of training progress in [0, 1].

They do not count steps, so a run resumed with more epochs follows the same curve, stretched.
"""

import math

from rpe.structures import UserError


def poly(progress: float, power: float) -> float:
    """Return (1 - progress)^power; the authors' power is 0.9.

    Raises:
        UserError: power is negative.
    """
    if power < 0:
        raise UserError(f"schedule.power must be >= 0, got {power}. The learning rate must not grow.")
    return (1 - min(progress, 1.0)) ** power


def one_cycle(progress: float, warmup: float, start: float, end: float) -> float:
    """Return the factor of a one-cycle schedule (Smith and Topin, 2018), without its momentum.

    The factor rises from `start` to 1 over the fraction `warmup` of the training, then falls to `end`, both
    along half a cosine.

    Raises:
        UserError: warmup is outside [0, 1), or a factor outside [0, 1].
    """
    if not 0 <= warmup < 1:
        raise UserError(
            f"schedule.warmup must be in [0, 1), got {warmup}. The rate rises in this fraction of training."
        )
    for name, factor in (("start", start), ("end", end)):
        if not 0 <= factor <= 1:
            raise UserError(f"schedule.{name} must be in [0, 1], got {factor}. It multiplies optimizer.lr.")
    if progress < warmup:
        return 1 + (start - 1) * (1 + math.cos(math.pi * progress / warmup)) / 2
    along = min((progress - warmup) / (1 - warmup), 1.0)
    return end + (1 - end) * (1 + math.cos(math.pi * along)) / 2


def constant(progress: float) -> float:
    """Return 1."""
    return 1.0
