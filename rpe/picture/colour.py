"""Project points to RGB colours, with one projection for all iterates."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def principal_axes(iterates: list[Float[Tensor, "pixel dim"]]) -> Float[Tensor, "dim axis"]:
    """Return the three directions along which X_0 .. X_T together vary most; two if `dim` is 2."""
    together = torch.cat(iterates)
    centred = together - together.mean(0)
    return torch.linalg.svd(centred.T @ centred).U[:, :3]


def random_axes(dimension: int, seed: int) -> Float[Tensor, "dim axis"]:
    """Return three random orthogonal directions, as in the authors' pictures; two if `dimension` is 2."""
    drawn = torch.randn(dimension, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(drawn).Q.float()


def project(
    iterates: list[Float[Tensor, "pixel dim"]], axes: Float[Tensor, "dim axis"]
) -> list[Float[np.ndarray, "pixel 3"]]:
    """Return the iterates as RGB: their coordinates along the axes, scaled to [0, 1] over all iterates.

    Equal points get equal colours.
    """
    together = torch.cat(iterates)
    flat = (together - together.mean(0)) @ axes.to(together)
    flat = torch.nn.functional.pad(flat, (0, 3 - flat.shape[1]))
    low, high = flat.amin(0), flat.amax(0)
    colours = (flat - low) / (high - low).clamp(min=1e-6)
    return [part.numpy() for part in colours.cpu().split(len(iterates[0]))]


def project_on_principal_axes(
    iterates: list[Float[Tensor, "pixel dim"]],
) -> list[Float[np.ndarray, "pixel 3"]]:
    """Return the iterates as RGB, along their common principal axes."""
    return project(iterates, principal_axes(iterates))
