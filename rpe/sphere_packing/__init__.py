"""How far apart n groups can be on the sphere S^(D-1): what is proven (bound), what a search finds (search), and which margins can be met (meeting).

All similarities are calibrated cosines s = (1 + x . y) / 2, so that they compare with the margin alpha: n groups can meet a margin from the smallest possible
largest similarity on.
"""

from rpe.sphere_packing.bound import similarity_bound
from rpe.sphere_packing.meeting import Meeting, can_meet, smallest_margin, smallest_margin_soon
from rpe.sphere_packing.search import loss_floor

__all__ = ["Meeting", "can_meet", "loss_floor", "similarity_bound", "smallest_margin", "smallest_margin_soon"]
