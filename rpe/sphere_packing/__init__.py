"""Compute how far apart n groups can be on the sphere S^(D-1).

`bound` holds proven values, `search` finds arrangements, `meeting` tells which margins can be met. All
similarities are calibrated cosines s = (1 + x . y) / 2, comparable with the margin alpha: n groups can meet a
margin if it is at least the smallest possible largest similarity.
"""

from rpe.sphere_packing.bound import similarity_bound
from rpe.sphere_packing.meeting import Meeting, can_meet, smallest_margin, smallest_margin_soon
from rpe.sphere_packing.search import loss_floor

__all__ = ["Meeting", "can_meet", "loss_floor", "similarity_bound", "smallest_margin", "smallest_margin_soon"]
