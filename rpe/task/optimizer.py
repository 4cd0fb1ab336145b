"""Optimisers with parameter groups: a lower rate for pretrained encoders, no weight decay of biases."""

import math
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from rpe.structures import UserError


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, encoder_scale: float
) -> list[dict[str, Any]]:
    """Split the trainable parameters of a network by their learning rate and weight decay.

    Parameters of modules whose attribute `pretrained` is true get `encoder_scale` times the rate. Parameters
    with fewer than two axes (biases, scales of norms, a bandwidth) are not decayed.

    Args:
        network: to be trained.
        lr: the largest learning rate.
        weight_decay: of parameters with two or more axes.
        encoder_scale: factor of the rate for pretrained parts.

    Raises:
        UserError: a number is negative or not finite.
    """
    for name, value in (("lr", lr), ("weight_decay", weight_decay), ("encoder_scale", encoder_scale)):
        if not 0 <= value < math.inf:
            raise UserError(f"optimizer.{name} must be finite and >= 0, got {value}.")
    encoders = [module for module in network.modules() if getattr(module, "pretrained", False)]
    slow = {id(parameter) for encoder in encoders for parameter in encoder.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            rate = lr * (encoder_scale if id(parameter) in slow else 1.0)
            groups.setdefault((rate, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def adamw(network: nn.Module, lr: float, weight_decay: float, encoder_scale: float) -> Optimizer:
    """Return AdamW (Loshchilov and Hutter, 2019) over `parameter_groups`."""
    return AdamW(parameter_groups(network, lr, weight_decay, encoder_scale), lr=lr, weight_decay=weight_decay)


def sgd(
    network: nn.Module, lr: float, momentum: float, weight_decay: float, encoder_scale: float
) -> Optimizer:
    """Return SGD with momentum, the authors' optimiser, over `parameter_groups`.

    Raises:
        UserError: momentum is outside [0, 1), or see `parameter_groups`.
    """
    if not 0 <= momentum < 1:
        raise UserError(f"optimizer.momentum must be in [0, 1), got {momentum}.")
    return SGD(
        parameter_groups(network, lr, weight_decay, encoder_scale),
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
    )
