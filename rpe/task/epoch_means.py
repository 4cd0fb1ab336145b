"""Average logged values over an epoch that may be interrupted."""

import torch
from jaxtyping import Float
from torch import Tensor

State = dict[str, tuple[Tensor, int]]


class EpochMeans:
    """Weighted means of values over the steps of an epoch.

    Lightning averages too, but its averages start again when a run is resumed in the middle of an epoch.
    These are part of a checkpoint. They stay on the device.
    """

    def __init__(self) -> None:
        self.sums: State = {}

    def add(self, values: dict[str, Float[Tensor, ""]], weight: int) -> None:
        """Add the values of a step, in single precision or higher."""
        for name, value in values.items():
            new = value.detach().to(torch.promote_types(value.dtype, torch.float32)) * weight
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + new, count + weight)

    def pop(self, device: torch.device) -> dict[str, Float[Tensor, ""]]:
        """Return the means on a device, and start the next epoch."""
        means = {name: total.to(device) / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means

    def state(self) -> State:
        """Return the sums and weights on the CPU."""
        return {name: (total.cpu(), count) for name, (total, count) in self.sums.items()}
