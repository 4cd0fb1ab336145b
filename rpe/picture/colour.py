"""Points as colours: one projection for all iterates."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def principal_axes(iterates: list[Float[Tensor, "pixel dim"]]) -> Float[Tensor, "dim axis"]:
    """Along which X_0 .. X_T together vary most: three, or two where there are no more."""
    together = torch.cat(iterates)
    centred = together - together.mean(0)
    return torch.linalg.svd(centred.T @ centred).U[:, :3]


def random_axes(dimension: int, seed: int) -> Float[Tensor, "dim axis"]:
    """Three orthogonal directions at random, as the authors' pictures have them; two where there are no more."""
    drawn = torch.randn(dimension, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(drawn).Q.float()


def projected(
    iterates: list[Float[Tensor, "pixel dim"]], axes: Float[Tensor, "dim axis"]
) -> list[Float[np.ndarray, "pixel 3"]]:
    """All iterates in the same three colours: their coordinates along the axes, each scaled to [0, 1] over all of them; equal points have equal colours."""
    together = torch.cat(iterates)
    flat = (together - together.mean(0)) @ axes.to(together)
    flat = torch.nn.functional.pad(flat, (0, 3 - flat.shape[1]))
    low, high = flat.amin(0), flat.amax(0)
    colours = (flat - low) / (high - low).clamp(min=1e-6)
    return [part.numpy() for part in colours.cpu().split(len(iterates[0]))]


def one_projection(iterates: list[Float[Tensor, "pixel dim"]]) -> list[Float[np.ndarray, "pixel 3"]]:
    """All iterates in the same three colours, along their principal axes."""
    return projected(iterates, principal_axes(iterates))
