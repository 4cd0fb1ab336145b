"""COCO's run-length masks, a thousand at a time: checked, measured and intersected without being painted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int64, UInt8
from pycocotools import mask as coco_mask

from rpe.structures import RunLength, UserError

FIRST_SYMBOL = 48
"""A character holds 6 bits on top of ASCII 48: 5 of the number, lowest first, and one that says that more follow (pycocotools' maskApi.c)."""

MORE = 32
"""The bit that says that more follow."""

LONGEST_NUMBER = 7
"""Characters that any 32-bit count fits into."""

LAST_DIGIT = np.array([digit if digit < MORE // 2 else digit - MORE for digit in range(MORE)], dtype=np.int64)
"""A number's last digit carries its sign."""


@dataclass
class Stretches:
    """Masks by their stretches of pixels, counted from the top left, column by column.

    Mask m covers the pixels `starts[k] .. ends[k] - 1` for k from `first[m]` to `first[m + 1] - 1`; stretches may be empty, each mask has one.
    `areas` are the masks' pixels, `pixels` those of the whole image that each was made for.
    """

    starts: Int64[np.ndarray, " stretch"]
    ends: Int64[np.ndarray, " stretch"]
    first: Int64[np.ndarray, " mask_and_one"]
    areas: Int64[np.ndarray, " mask"]
    pixels: Int64[np.ndarray, " mask"]


def offsets(
    lengths: Bool[np.ndarray, " part"] | Int[np.ndarray, " part"],
) -> Int64[np.ndarray, " part_and_one"]:
    """Where parts of these lengths begin when they lie one after the other, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def cumulated(
    values: Int64[np.ndarray, " value"], first: Int64[np.ndarray, " part"]
) -> Int64[np.ndarray, " value"]:
    """Running sums that start anew at each of `first`, of parts that hold something each."""
    values = values.copy()
    values[first[1:]] -= np.add.reduceat(values, first)[:-1] if len(first) else 0
    return np.cumsum(values, out=values)


def compressed(code: Any, size: Sequence[int]) -> RunLength:
    """Polygons, uncompressed or compressed run lengths as compressed run lengths, in text, of an image of `size` (height, width)."""
    if isinstance(code, dict) and not isinstance(code["counts"], list):
        return code
    written = coco_mask.frPyObjects(code, *size)
    whole = coco_mask.merge(written) if isinstance(code, list) else written
    return {"size": list(size), "counts": whole["counts"].decode()}


def parse(codes: Sequence[str]) -> Stretches:
    """Compressed counts, as `encode_mask` writes them.

    Raises:
        UserError: `mask <number>: ...`, one whose counts are no run-length code.
    """
    text = offsets(np.array([len(code) for code in codes], dtype=np.int64))
    try:
        symbols = np.frombuffer("".join(codes).encode("ascii"), dtype=np.uint8) - np.uint8(FIRST_SYMBOL)
    except UnicodeEncodeError as error:
        refuse(np.array([error.start]), text, "its counts hold a character that no run-length code has")
        raise
    if symbols.max(initial=0) >= 2 * MORE:
        refuse(
            np.nonzero(symbols >= 2 * MORE)[0],
            text,
            "its counts hold a character that no run-length code has",
        )
    final = text[1:][np.diff(text) > 0] - 1
    refuse(final[symbols[final] >= MORE], text, "its counts stop in the middle of a number")
    stops = np.nonzero(symbols < MORE)[0]
    return stretches_of(numbers_of(symbols, stops, text), np.searchsorted(stops, text))


def refuse(places: Int64[np.ndarray, " place"], first: Int64[np.ndarray, " mask_and_one"], why: str) -> None:
    """Raise `UserError` for the mask that the first place lies in, if there is one."""
    if len(places):
        raise UserError(f"mask {int(np.searchsorted(first, places[0], side='right')) - 1}: {why}")


def numbers_of(
    symbols: UInt8[np.ndarray, " symbol"],
    stops: Int64[np.ndarray, " run"],
    text: Int64[np.ndarray, " mask_and_one"],
) -> Int64[np.ndarray, " run"]:
    """The signed numbers whose last digits lie at `stops`, read backwards, a digit of all of them at a time."""
    numbers = LAST_DIGIT.take(symbols[stops])
    longer, before = np.arange(len(stops)), stops - 1
    for _ in range(LONGEST_NUMBER):
        more = np.nonzero((symbols.take(before, mode="clip") >= MORE) & (before >= 0))[0]
        if not len(more):
            return numbers
        longer, before = longer[more], before[more]
        numbers[longer] = MORE * numbers[longer] + symbols[before] % MORE
        before -= 1
    refuse(before, text, "its counts hold a number beyond any image")
    return numbers


def stretches_of(numbers: Int64[np.ndarray, " run"], first: Int64[np.ndarray, " mask_and_one"]) -> Stretches:
    """Runs take turns: background, mask, background, ...; from the fourth on, each is written as its difference to the one before last.

    The runs after the first are laid out as pairs (mask, background); a mask that ends in the middle of one, or has none, is filled up by zeros.
    """
    runs = np.diff(first)
    pairs = np.maximum(runs // 2, 1)
    mine = offsets(pairs)
    leading = np.zeros(len(runs), dtype=np.int64)
    leading[runs > 0] = numbers[first[:-1][runs > 0]]
    written = np.ones(len(numbers), dtype=bool)
    written[first[:-1][runs > 0]] = False
    # an even count of runs leaves the last slot free, one run or none leave both
    slots = np.ones(2 * mine[-1], dtype=bool)
    slots[2 * mine[1:][runs % 2 == 0] - 1] = False
    slots[2 * mine[:-1][runs <= 1]] = slots[2 * mine[:-1][runs <= 1] + 1] = False
    laid = np.zeros(len(slots), dtype=np.int64)
    laid[slots] = numbers[written]
    inside, outside = cumulated(laid[::2], mine[:-1]), cumulated(laid[1::2], mine[:-1])
    # the slot that was filled up is no run
    outside[mine[1:][runs % 2 == 0] - 1] = 0
    if min(inside.min(initial=0), outside.min(initial=0), leading.min(initial=0)) < 0:
        wrong = np.concatenate(
            [mine_of(inside < 0, mine), mine_of(outside < 0, mine), np.nonzero(leading < 0)[0]]
        )
        raise UserError(f"mask {wrong.min()}: its counts hold a negative run")
    both = inside + outside
    both[mine[:-1]] += leading
    after = cumulated(both, mine[:-1])
    ends = after - outside
    areas = np.add.reduceat(inside, mine[:-1]) if len(runs) else runs
    return Stretches(ends - inside, ends, mine, areas, after[mine[1:] - 1])


def mine_of(
    wrong: Bool[np.ndarray, " pair"], mine: Int64[np.ndarray, " mask_and_one"]
) -> Int64[np.ndarray, " wrong"]:
    """The masks of the pairs."""
    return np.searchsorted(mine, np.nonzero(wrong)[0], side="right") - 1


def close_masks(
    masks: Stretches, thing: Stretches, least: float
) -> tuple[Int64[np.ndarray, " close"], Float[np.ndarray, " close"]]:
    """Which masks overlap a thing of their image by an IoU of `least` > 0 or more, ascending, and their IoU.

    Whatever bounds the intersection bounds the IoU, rounded or not, so that most masks are left out by their area and by where they begin and end.

    Args:
        masks: of one image.
        thing: one mask.
    """
    begin, area = int(thing.starts[0]), int(thing.areas[0])
    edges = np.stack([thing.starts, thing.ends], axis=1).ravel()
    before = offsets(np.repeat(np.arange(len(edges) - 1) % 2 == 0, np.diff(edges)))
    smaller = np.minimum(masks.areas, area)
    chosen = np.nonzero(smaller >= least * (masks.areas + area - smaller))[0]
    bound = shared_between(
        before, begin, masks.starts[masks.first[chosen]], masks.ends[masks.first[chosen + 1] - 1]
    )
    bound = np.minimum(bound, smaller[chosen])
    chosen = chosen[bound >= least * (masks.areas[chosen] + area - bound)]
    lengths = masks.first[chosen + 1] - masks.first[chosen]
    first = offsets(lengths)[:-1]
    stretches = np.arange(lengths.sum()) + np.repeat(masks.first[chosen] - first, lengths)
    shared = shared_between(before, begin, masks.starts[stretches], masks.ends[stretches])
    shared = np.add.reduceat(shared, first) if len(first) else shared
    # pycocotools calls two empty masks different
    ious = shared / np.maximum(masks.areas[chosen] + area - shared, 1)
    enough = ious >= least
    return chosen[enough], ious[enough]


def shared_between(
    before: Int64[np.ndarray, " place"],
    begin: int,
    starts: Int64[np.ndarray, " stretch"],
    ends: Int64[np.ndarray, " stretch"],
) -> Int64[np.ndarray, " stretch"]:
    """Pixels of a thing in each stretch; `before[k]` counts those ahead of pixel `begin + k`, and the thing begins and ends with `before`."""
    last = len(before) - 1
    return before[np.clip(ends - begin, 0, last)] - before[np.clip(starts - begin, 0, last)]


def some_of(masks: Stretches, start: int, stop: int) -> Stretches:
    """The masks from number `start` to `stop - 1`."""
    first = masks.first[start : stop + 1]
    stretches = slice(first[0], first[-1])
    return Stretches(
        masks.starts[stretches],
        masks.ends[stretches],
        first - first[0],
        masks.areas[start:stop],
        masks.pixels[start:stop],
    )
