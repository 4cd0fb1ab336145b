"""Encode, decode, measure and compare COCO's run-length masks, one by one or a thousand at a time.

A mask is {"size": [height, width], "counts": text}. Its pixels are counted column by column: so many of the
background, so many of the mask, and so on. `parse` reads many masks without decoding them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, UInt8
from pycocotools import mask as coco_mask

from rpe.errors import UserError
from rpe.structures import RunLength

FIRST_SYMBOL = 48
"""ASCII code of symbol 0.

A character holds 6 bits: 5 of the number, lowest first, and one that tells that more follow (pycocotools'
maskApi.c).
"""

MORE = 32
"""The bit that tells that more digits follow."""

LONGEST_NUMBER = 7
"""Characters that hold any 32-bit count."""

OUTSIDE = "a character outside the code"

LAST_DIGIT = np.array([digit if digit < MORE // 2 else digit - MORE for digit in range(MORE)], dtype=np.int64)
"""Value of each last digit, which carries the sign of its number."""


@dataclass
class MaskRuns:
    """Masks as runs of pixels, counted from the top left, column by column.

    Mask m covers the pixels `starts[k] .. ends[k] - 1` for k from `first[m]` to `first[m + 1] - 1`. Runs may
    be empty; each mask has at least one. `areas` are the pixels of the masks, `pixels` those of their whole
    images.
    """

    starts: Int64[np.ndarray, " mask_run"]
    ends: Int64[np.ndarray, " mask_run"]
    first: Int64[np.ndarray, " mask_and_one"]
    areas: Int64[np.ndarray, " mask"]
    pixels: Int64[np.ndarray, " mask"]


def encode_mask(mask: Bool[np.ndarray, "height width"]) -> RunLength:
    """Encode a mask as COCO's compressed run lengths with textual counts, as JSON holds no bytes."""
    return as_text(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)))


def encode_labels(
    labels: Int64[np.ndarray, "height width"], chosen: Int64[np.ndarray, " mask"]
) -> list[RunLength]:
    """Encode the mask of each chosen label as `encode_mask` does, in one pass over the label map."""
    height, width = labels.shape
    flat = labels.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    ends = np.append(starts[1:], len(flat))
    by_label = np.argsort(flat[starts], kind="stable")
    runs = flat[starts][by_label]
    masks = []
    for label in chosen:
        mine = by_label[np.searchsorted(runs, label) : np.searchsorted(runs, label, side="right")]
        # background and object alternate, background first
        borders = np.stack([starts[mine], ends[mine]], 1).ravel()
        ends_at = int(borders[-1]) if len(borders) else 0
        counts = np.diff(borders, prepend=0).tolist() + ([len(flat) - ends_at] if ends_at < len(flat) else [])
        masks.append(compress({"size": [height, width], "counts": counts}, (height, width)))
    return masks


def decode_mask(mask: RunLength) -> Bool[np.ndarray, "height width"]:
    """Return the pixels of a mask, in column-major order."""
    return coco_mask.decode(mask).view(bool)


def as_text(mask: RunLength) -> RunLength:
    """Return a mask of pycocotools with its counts as text."""
    return {"size": [int(length) for length in mask["size"]], "counts": mask["counts"].decode()}


def compress(code: Any, size: Sequence[int]) -> RunLength:
    """Return polygons or run lengths, compressed or not, as compressed run lengths.

    Args:
        code: of one mask, as in an annotation.
        size: (height, width) of its image.
    """
    if isinstance(code, list):
        return as_text(coco_mask.merge(coco_mask.frPyObjects(code, *size)))
    if isinstance(code["counts"], list):
        return as_text(coco_mask.frPyObjects(code, *size))
    return code


def count_pixels(counts: Any) -> int:
    """Count the pixels of the image that run lengths cover, compressed or not. Invalid ones give -1."""
    if isinstance(counts, list):
        return sum(counts) if all(type(count) is int and count >= 0 for count in counts) else -1
    if not isinstance(counts, str) or not counts.isascii():
        return -1
    code = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - FIRST_SYMBOL
    ends = np.flatnonzero((code & MORE) == 0)
    if not len(ends) or ends[-1] != len(code) - 1 or code.min() < 0 or code.max() >= 2 * MORE:
        return -1
    starts = np.concatenate([[0], ends[:-1] + 1])
    bits = 5 * (ends - starts + 1)
    if bits.max() > 60:
        return -1
    digits = np.arange(len(code)) - np.repeat(starts, ends - starts + 1)
    runs = np.add.reduceat((code % MORE) << (5 * digits), starts) - np.where(code[ends] & 16, 1 << bits, 0)
    # from the fourth on, a run is coded as its difference to the last but one
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return int(runs.sum()) if (runs >= 0).all() else -1


def merge_masks(masks: list[RunLength], intersect: bool = False) -> RunLength:
    """Return the union of masks of one image, or their intersection."""
    return as_text(coco_mask.merge(masks, intersect))


def mask_area(mask: RunLength) -> int:
    """Return the number of pixels. One mask per call, as pycocotools counts the masks of a list in 8 bits."""
    return int(coco_mask.area(mask))


def mask_box(mask: RunLength) -> tuple[int, int, int, int]:
    """Return the bounding box (left, top, width, height) in pixels; all 0 for an empty mask."""
    left, top, width, height = coco_mask.toBbox(mask).astype(np.int64).tolist()
    return left, top, width, height


def pairwise_iou(
    masks: list[RunLength], others: list[RunLength], crowd: bool = False
) -> Float[np.ndarray, "mask other"]:
    """Return the IoU of all pairs of masks of one image; for crowds, the share of a mask inside the other."""
    if not masks or not others:
        return np.zeros((len(masks), len(others)))
    overlap: Float[np.ndarray, "mask other"] = coco_mask.iou(masks, others, [int(crowd)] * len(others))
    return overlap


def offsets(
    lengths: Bool[np.ndarray, " part"] | Int[np.ndarray, " part"],
) -> Int64[np.ndarray, " part_and_one"]:
    """Return where parts of these lengths begin when concatenated, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def cumsum_by_part(
    values: Int64[np.ndarray, " value"], first: Int64[np.ndarray, " part"]
) -> Int64[np.ndarray, " value"]:
    """Return cumulative sums that restart at each of `first`; no part may be empty."""
    values = values.copy()
    values[first[1:]] -= np.add.reduceat(values, first)[:-1] if len(first) else 0
    return np.cumsum(values, out=values)


def parse(codes: Sequence[str]) -> MaskRuns:
    """Parse compressed counts as `encode_mask` writes them.

    Raises:
        UserError: `mask <number>: <what was found>`, where the counts are not a valid run-length code.
    """
    text = offsets(np.array([len(code) for code in codes], dtype=np.int64))
    try:
        symbols = np.frombuffer("".join(codes).encode("ascii"), dtype=np.uint8) - np.uint8(FIRST_SYMBOL)
    except UnicodeEncodeError as error:
        raise_at(np.array([error.start]), text, OUTSIDE)
        raise
    if symbols.max(initial=0) >= 2 * MORE:
        raise_at(
            np.nonzero(symbols >= 2 * MORE)[0],
            text,
            OUTSIDE,
        )
    final = text[1:][np.diff(text) > 0] - 1
    raise_at(final[symbols[final] >= MORE], text, "an unfinished number at the end")
    stops = np.nonzero(symbols < MORE)[0]
    return build_mask_runs(decode_numbers(symbols, stops, text), np.searchsorted(stops, text))


def raise_at(
    positions: Int64[np.ndarray, " position"], first: Int64[np.ndarray, " mask_and_one"], found: str
) -> None:
    """Refuse the mask that contains the first of the positions, if there are any.

    Raises:
        UserError: there is a position.
    """
    if len(positions):
        raise UserError(f"mask {int(np.searchsorted(first, positions[0], side='right')) - 1}: {found}")


def decode_numbers(
    symbols: UInt8[np.ndarray, " symbol"],
    stops: Int64[np.ndarray, " run"],
    text: Int64[np.ndarray, " mask_and_one"],
) -> Int64[np.ndarray, " run"]:
    """Return the signed numbers whose last digits lie at `stops`.

    Digits are read backwards, one digit of all numbers per step.
    """
    numbers = LAST_DIGIT.take(symbols[stops])
    longer, before = np.arange(len(stops)), stops - 1
    for _ in range(LONGEST_NUMBER):
        more = np.nonzero((symbols.take(before, mode="clip") >= MORE) & (before >= 0))[0]
        if not len(more):
            return numbers
        longer, before = longer[more], before[more]
        numbers[longer] = MORE * numbers[longer] + symbols[before] % MORE
        before -= 1
    raise_at(before, text, "a number beyond any image")
    return numbers


def build_mask_runs(
    numbers: Int64[np.ndarray, " run"], first: Int64[np.ndarray, " mask_and_one"]
) -> MaskRuns:
    """Build masks from the numbers of their codes, split at `first`.

    Runs alternate: background, mask, background, ... From the fourth on, a number is the difference to the
    run two before. The runs after the first are stored as pairs (mask, background). A mask that ends within a
    pair, or has no pair, is padded with zeros.

    Raises:
        UserError: a run is negative.
    """
    runs = np.diff(first)
    pairs = np.maximum(runs // 2, 1)
    mine = offsets(pairs)
    leading = np.zeros(len(runs), dtype=np.int64)
    leading[runs > 0] = numbers[first[:-1][runs > 0]]
    written = np.ones(len(numbers), dtype=bool)
    written[first[:-1][runs > 0]] = False
    # an even number of runs leaves the last slot free; one run or zero leave both
    slots = np.ones(2 * mine[-1], dtype=bool)
    slots[2 * mine[1:][runs % 2 == 0] - 1] = False
    slots[2 * mine[:-1][runs <= 1]] = slots[2 * mine[:-1][runs <= 1] + 1] = False
    laid = np.zeros(len(slots), dtype=np.int64)
    laid[slots] = numbers[written]
    inside, outside = cumsum_by_part(laid[::2], mine[:-1]), cumsum_by_part(laid[1::2], mine[:-1])
    # the padded slot is not a run
    outside[mine[1:][runs % 2 == 0] - 1] = 0
    if min(inside.min(initial=0), outside.min(initial=0), leading.min(initial=0)) < 0:
        wrong = np.concatenate(
            [find_masks(inside < 0, mine), find_masks(outside < 0, mine), np.nonzero(leading < 0)[0]]
        )
        raise UserError(f"mask {wrong.min()}: a negative run")
    both = inside + outside
    both[mine[:-1]] += leading
    after = cumsum_by_part(both, mine[:-1])
    ends = after - outside
    areas = np.add.reduceat(inside, mine[:-1]) if len(runs) else runs
    return MaskRuns(ends - inside, ends, mine, areas, after[mine[1:] - 1])


def find_masks(
    wrong: Bool[np.ndarray, " pair"], mine: Int64[np.ndarray, " mask_and_one"]
) -> Int64[np.ndarray, " wrong"]:
    """Return the mask of each marked pair."""
    return np.searchsorted(mine, np.nonzero(wrong)[0], side="right") - 1


def find_close_masks(
    masks: MaskRuns, thing: MaskRuns, least: float
) -> tuple[Int64[np.ndarray, " close"], Float[np.ndarray, " close"]]:
    """Return the masks that overlap an object by an IoU of at least `least` > 0, ascending, and the IoUs.

    An upper bound of the intersection also bounds the IoU, rounded or not. Most masks are therefore excluded
    by their area and extent alone.

    Args:
        masks: of one image.
        thing: the object, as one mask of the same image.
        least: the smallest IoU.
    """
    begin, area = int(thing.starts[0]), int(thing.areas[0])
    edges = np.stack([thing.starts, thing.ends], axis=1).ravel()
    before = offsets(np.repeat(np.arange(len(edges) - 1) % 2 == 0, np.diff(edges)))
    smaller = np.minimum(masks.areas, area)
    chosen = np.nonzero(smaller >= least * (masks.areas + area - smaller))[0]
    bound = count_shared(
        before, begin, masks.starts[masks.first[chosen]], masks.ends[masks.first[chosen + 1] - 1]
    )
    bound = np.minimum(bound, smaller[chosen])
    chosen = chosen[bound >= least * (masks.areas[chosen] + area - bound)]
    lengths = masks.first[chosen + 1] - masks.first[chosen]
    first = offsets(lengths)[:-1]
    runs_of_masks = np.arange(lengths.sum()) + np.repeat(masks.first[chosen] - first, lengths)
    shared = count_shared(before, begin, masks.starts[runs_of_masks], masks.ends[runs_of_masks])
    shared = np.add.reduceat(shared, first) if len(first) else shared
    # pycocotools calls two empty masks different
    ious = shared / np.maximum(masks.areas[chosen] + area - shared, 1)
    enough = ious >= least
    return chosen[enough], ious[enough]


def count_shared(
    before: Int64[np.ndarray, " position"],
    begin: int,
    starts: Int64[np.ndarray, " mask_run"],
    ends: Int64[np.ndarray, " mask_run"],
) -> Int64[np.ndarray, " mask_run"]:
    """Count the pixels of an object in each run.

    `before[k]` counts the object's pixels ahead of pixel `begin + k`; the object begins and ends with
    `before`.
    """
    last = len(before) - 1
    return before[np.clip(ends - begin, 0, last)] - before[np.clip(starts - begin, 0, last)]


def slice_masks(masks: MaskRuns, start: int, stop: int) -> MaskRuns:
    """Return the masks from number `start` to `stop - 1`."""
    first = masks.first[start : stop + 1]
    runs_of_masks = slice(first[0], first[-1])
    return MaskRuns(
        masks.starts[runs_of_masks],
        masks.ends[runs_of_masks],
        first - first[0],
        masks.areas[start:stop],
        masks.pixels[start:stop],
    )
