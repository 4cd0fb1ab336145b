"""Find segment boundaries, and thin them to one pixel by Guo and Hall's parallel algorithm, 64 pixels a word.

The result equals `skimage.morphology.thin` and the official BSDS program, about twenty times faster. The
benchmark thins 99 masks an image.
"""

import numpy as np
from jaxtyping import Bool, Int64, UInt64

WORD = 64


def thin(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Thin a mask to lines (Guo and Hall 1989; Lam, Lee and Suen 1992, section IV)."""
    height, width = mask.shape
    # an empty column between rows and an empty row above and below, as pixels beyond the image count as unset
    words = width // WORD + 1
    padded = np.zeros((height + 2, words * WORD), dtype=bool)
    padded[1:-1, :width] = mask
    bits = np.packbits(padded, bitorder="little").view("<u8").astype(np.uint64)
    moving = True
    while moving:
        moving = False
        for half in (0, 4):
            removed = find_removable(bits, words, half)
            moving = moving or bool(removed.any())
            bits[words:-words] ^= removed
    unpacked = np.unpackbits(bits.astype("<u8").view(np.uint8), bitorder="little").reshape(padded.shape)
    return unpacked[1:-1, :width].astype(bool)


def find_removable(bits: UInt64[np.ndarray, " word"], words: int, half: int) -> UInt64[np.ndarray, " inner"]:
    """Return the pixels that one half of an iteration removes.

    Such a pixel lies on that half's side of the mask, ends no line, and its removal disconnects nothing.

    Args:
        bits: rows of `words` words, the first and the last row empty.
        half: 0 removes from the south and east, 4 from the north and west.
    """
    one, carry = np.uint64(1), np.uint64(WORD - 1)
    east = bits >> one
    east[:-1] |= bits[1:] << carry
    west = bits << one
    west[1:] |= bits[:-1] >> carry
    above, here, below = slice(None, -2 * words), slice(words, -words), slice(2 * words, None)
    # x_1 .. x_8 counter-clockwise from the east
    ring = [
        east[here],
        east[above],
        bits[above],
        west[above],
        west[here],
        west[below],
        bits[below],
        east[below],
    ]
    # crossing number 1: exactly one of four is set
    a, b, c, d = (~ring[i] & (ring[i + 1] | ring[(i + 2) % 8]) for i in (0, 2, 4, 6))
    removed = (a ^ b ^ c ^ d) & ~((a & b) | (c & d)) & bits[here]
    # the smaller of two counts of neighbour pairs is 2 or 3
    a, b, c, d = (ring[i] | ring[i + 1] for i in (0, 2, 4, 6))
    pairs, other = (a & b, c & d), (a | b, c | d)
    removed &= pairs[0] | pairs[1] | (other[0] & other[1])
    full = pairs[0] & pairs[1]
    a, b, c, d = (ring[i] | ring[(i + 1) % 8] for i in (1, 3, 5, 7))
    pairs, other = (a & b, c & d), (a | b, c | d)
    removed &= pairs[0] | pairs[1] | (other[0] & other[1])
    removed &= ~(full & pairs[0] & pairs[1])
    first, second, third, last = (ring[(half + i) % 8] for i in (0, 1, 2, 7))
    return removed & ~((second | third | ~last) & first)


def segment_changes(segments: Int64[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Return where a pixel and its neighbours to the right, below and diagonally below differ in segment.

    Thinned, these pixels equal the boundaries in BSDS500's files, and those of an ultrametric contour map at
    every second pixel.
    """
    wide = np.pad(segments, ((0, 1), (0, 1)), mode="edge")
    here = wide[:-1, :-1]
    return (here != wide[1:, :-1]) | (here != wide[:-1, 1:]) | (here != wide[1:, 1:])
