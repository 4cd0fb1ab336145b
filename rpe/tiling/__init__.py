"""Images of any size: tiles that overlap (tile), and the objects of all tiles as one label map (stitching).

A tile's own answer counts in its core, the part that is nearer to its middle than to a neighbour's. Memory is that of the label maps, never of a mask an object.
"""

from rpe.segment.stitching import Piece, Stitched, enlarged, stitched
from rpe.segment.tiles import Tile, check_step, tiles_of, within

__all__ = ["Piece", "Stitched", "Tile", "check_step", "enlarged", "stitched", "tiles_of", "within"]
