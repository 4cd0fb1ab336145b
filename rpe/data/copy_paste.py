"""Paste objects of one training image over another (Ghiasi et al., CVPR 2021)."""

import numpy as np
import torch

from rpe.data.module import Sample
from rpe.structures import BACKGROUND, VOID


def paste(front: Sample, behind: Sample, random: np.random.Generator) -> Sample:
    """Return `behind` with a random half of the objects of `front`, at least one, pasted over it.

    An image with one object teaches an embedding nothing about separating objects. Pasted objects touch and
    cover others. Objects without a visible pixel are removed, and labels are renumbered without gaps. Void of
    `front` is not copied.

    Args:
        front: the source of objects, of the size of `behind`.
        behind: the target, which keeps its image id and original size.
        random: the only source of random numbers.
    """
    count = int(front.labels.max())
    coins = random.random(max(count, 1)) < 0.5
    if count <= BACKGROUND:
        return behind
    coins[int(random.integers(count))] = True
    chosen = torch.from_numpy(np.append(False, coins[:count]))
    copied = chosen[front.labels.clamp(min=BACKGROUND)] & (front.labels != VOID)
    image = torch.where(copied, front.image, behind.image)
    labels = torch.where(copied, front.labels + int(behind.labels.max().clamp(min=BACKGROUND)), behind.labels)
    categories = torch.cat([behind.categories, front.categories[1:]])
    present, ranks = torch.unique(labels[labels > BACKGROUND], return_inverse=True)
    labels[labels > BACKGROUND] = ranks + 1
    return Sample(
        image, labels, behind.image_id, behind.size, torch.cat([categories[:1], categories[present]])
    )
