"""Draw which pixels of an image still get a gradient when the loss is applied after mean-shift loops."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from rpe.grouping import mean_shift
from rpe.loss import pairwise_margin_loss
from rpe.sphere import normalise
from rpe.structures import VOID

SHOWN_LOOPS = (0, 1, 3, 5)

FATES = {"right": "#d0d0d0", "repaired": "#009e73", "lost": "#d55e00"}
"""What becomes of a pixel by the last loop, with its colour (Okabe and Ito); see `Survival`."""

BRIGHTEST = 99.0
"""Percentile of an image's gradients that is drawn white."""


class Survival(NamedTuple):
    """The gradient of the loss on X_T alone, by X_0, and what becomes of each pixel.

    Args:
        gradients: its length at each pixel, for each T of `SHOWN_LOOPS`.
        fates: index into `FATES` of each pixel. A pixel is right at X_t if the nearest mean direction of the
            true groups at X_t is that of its own: "right" at X_0 and at the last T, "repaired" at the last T
            alone, "lost" at neither, or no longer. -1 where the truth is void.
    """

    gradients: Float[Tensor, "loops pixel"]
    fates: Int64[Tensor, " pixel"]

    def table(self) -> str:
        """Return CSV: of each fate the share of pixels, and for each T its gradient per pixel over all's.

        1 means an average gradient.
        """
        lines = ["pixels,share," + ",".join(f"gradient-{loops}" for loops in SHOWN_LOOPS)]
        known = self.fates >= 0
        for fate, name in enumerate(FATES):
            chosen = self.fates == fate
            if chosen.any():
                each = self.gradients[:, chosen].mean(1) / self.gradients[:, known].mean(1)
                share = float(chosen.sum() / known.sum())
                lines.append(f"{name},{share:.4f}," + ",".join(f"{float(value):.3f}" for value in each))
        return "\n".join(lines) + "\n"


def nearest_is_own(
    points: Float[Tensor, "pixel dim"], labels: Int64[Tensor, " pixel"]
) -> Bool[Tensor, " pixel"]:
    """Return whether the nearest mean direction of the true groups is that of the pixel's own group."""
    known = torch.unique(labels[labels != VOID])
    means = normalise(torch.stack([points[labels == label].mean(0) for label in known]))
    return known[(points @ means.T).argmax(1)] == labels


def trace_survival(
    points: Float[Tensor, "1 pixel dim"], labels: Int64[Tensor, " pixel"], concentration: float, margin: float
) -> Survival:
    """Move one image's points by the loops, and differentiate the loss on each iterate alone by X_0."""
    start = points.detach().clone().requires_grad_()
    iterates = mean_shift(start, concentration, max(SHOWN_LOOPS))
    gradients = []
    for loops in SHOWN_LOOPS:
        loss = pairwise_margin_loss(iterates[loops], labels[None], margin)
        (gradient,) = torch.autograd.grad(loss, start, retain_graph=True)
        # along the sphere: a change of length is undone by the normalisation
        along = gradient - (gradient * start).sum(-1, keepdim=True) * start
        gradients.append(along[0].norm(dim=-1).detach())
    first, last = (nearest_is_own(iterates[loops][0].detach(), labels) for loops in (0, max(SHOWN_LOOPS)))
    fates = torch.where(last & first, 0, torch.where(last, 1, 2))
    return Survival(torch.stack(gradients), torch.where(labels == VOID, -1, fates))


def draw_survival(
    survival: Survival,
    image: Float[np.ndarray, "height width 3"],
    truth: Float[np.ndarray, "rows columns 3"],
    file: Path,
) -> None:
    """Draw the image, its true groups, the fate of each pixel, and the gradient for each T shown."""
    rows, columns = truth.shape[:2]
    figure = Figure(figsize=(12, 12 * 2.05 * rows / columns / 4 + 0.8), layout="constrained")
    axes = figure.subplots(2, 4)
    fates = np.ma.masked_less(survival.fates.reshape(rows, columns).numpy(), 0)
    axes[0, 0].imshow(image)
    axes[0, 1].imshow(truth)
    axes[0, 2].imshow(
        fates, cmap=ListedColormap(list(FATES.values())), vmin=0, vmax=2, interpolation="nearest"
    )
    titles = ("image", "true groups", f"after {max(SHOWN_LOOPS)} loops", "")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    known = survival.fates >= 0
    names = {
        "right": "in its group from the start",
        "repaired": "repaired by the loops",
        "lost": "in another group at the end",
    }
    handles = [
        Patch(color=colour, label=f"{names[name]}: {(survival.fates[known] == fate).double().mean():.1%}")
        for fate, (name, colour) in enumerate(FATES.items())
    ]
    axes[0, 3].legend(handles=handles, loc="center", fontsize=9, frameon=False)
    for axis, loops, gradient in zip(axes[1], SHOWN_LOOPS, survival.gradients, strict=True):
        brightest = max(float(np.percentile(gradient.numpy(), BRIGHTEST)), 1e-12)
        axis.imshow(gradient.reshape(rows, columns).numpy(), cmap="magma", vmin=0, vmax=brightest)
        share = float(gradient[survival.fates == 2].sum() / gradient.sum().clamp(min=1e-12))
        after = "no loop" if loops == 0 else f"{loops} loop{'s' if loops > 1 else ''}"
        axis.set_title(f"gradient, {after}: {share:.0%} on lost pixels", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(file, dpi=90)
