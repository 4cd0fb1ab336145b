"""The pairwise margin loss as dense algebra: what the tiled one must equal."""

import torch


def dense_loss(
    points: torch.Tensor,
    labels: torch.Tensor,
    margin: float,
    negative_weight: float = 1.0,
    weighting: str = "group",
    positions: torch.Tensor | None = None,
    negative_range: float | None = None,
    squared: bool = False,
) -> torch.Tensor:
    """The paper's equation as it stands, image by image."""
    losses = []
    for image in range(len(points)):
        keep = labels[image] >= 0
        if not keep.any():
            continue
        x, y = points[image][keep], labels[image][keep]
        similarity = (1 + x @ x.T) / 2
        same = y[:, None] == y
        weight = 1 / same.sum(1).to(x.dtype) if weighting == "group" else torch.ones_like(x[:, 0])
        hinge = (similarity - margin).clamp(min=0)
        if negative_range is not None and positions is not None:
            hinge = hinge * (torch.cdist(positions[image][keep], positions[image][keep]) <= negative_range)
        pull, push = ((1 - similarity**2) / 2, hinge**2 / 2) if squared else (1 - similarity, hinge)
        pair = weight[:, None] * weight
        losses.append((pair * torch.where(same, pull, negative_weight * push)).sum() / pair.sum())
    return torch.stack(losses).mean()
