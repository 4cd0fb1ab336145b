"""Thousands of masks at a time against pycocotools, one at a time."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rpe.metric.run_length import compress, cumsum_by_part, find_close_masks, offsets, parse, slice_masks
from rpe.structures import decode_mask, encode_mask

SIZES = ((1, 1), (1, 40), (40, 1), (23, 31), (200, 300))


def some_masks(size: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    boxes = np.zeros((6, *size), dtype=bool)
    for box in boxes:
        rows, columns = (
            np.sort(random.integers(0, size[0] + 1, 2)),
            np.sort(random.integers(0, size[1] + 1, 2)),
        )
        box[rows[0] : rows[1], columns[0] : columns[1]] = True
    return [
        np.zeros(size, dtype=bool),
        np.ones(size, dtype=bool),
        *boxes,
        *(random.random((4, *size)) < [[[0.5]], [[0.02]], [[0.98]], [[0.2]]]),
    ]


def test_stretches_paint_the_masks() -> None:
    for size in SIZES:
        masks = some_masks(size)
        stretches = parse([encode_mask(mask)["counts"] for mask in masks])
        for index, mask in enumerate(masks):
            painted = np.zeros(mask.size, dtype=bool)
            for stretch in range(stretches.first[index], stretches.first[index + 1]):
                painted[stretches.starts[stretch] : stretches.ends[stretch]] = True
            assert (painted.reshape(size, order="F") == mask).all()
        assert stretches.areas.tolist() == [int(mask.sum()) for mask in masks] and set(
            stretches.pixels.tolist()
        ) == {size[0] * size[1]}


@pytest.mark.parametrize("least", [0.01, 0.3, 0.5, 1.0])
def test_masks_that_overlap_a_thing(least: float) -> None:
    found = 0
    for size in SIZES:
        masks = some_masks(size)
        codes = [encode_mask(mask) for mask in masks]
        for thing in [*some_masks(size, seed=1), *masks[:6]]:
            wanted = coco_mask.iou(codes, [encode_mask(thing)], [0])[:, 0]
            one = parse([encode_mask(thing)["counts"]])
            close, ious = find_close_masks(parse([code["counts"] for code in codes]), one, least)
            assert (
                close.tolist() == np.nonzero(wanted >= least)[0].tolist()
                and ious.tolist() == wanted[close].tolist()
            )
            found += len(close)
    assert found > 20
    assert find_close_masks(parse([]), one, least)[0].tolist() == []


def test_some_of_the_masks() -> None:
    codes = [encode_mask(mask)["counts"] for mask in some_masks((23, 31))]
    for start, stop in ((0, 3), (4, 5), (9, 50)):
        part, alone = slice_masks(parse(codes), start, stop), parse(codes[start:stop])
        for name in ("starts", "ends", "first", "areas", "pixels"):
            assert getattr(part, name).tolist() == getattr(alone, name).tolist()


def test_the_code_of_a_large_image() -> None:
    """Runs of five and more characters, and falling ones."""
    mask = np.zeros((3000, 4000), dtype=bool)
    mask[1:2990, 10], mask[5:7, 3900], mask[:, 3950:] = True, True, True
    stretches = parse([encode_mask(mask)["counts"]])
    assert stretches.areas.tolist() == [int(mask.sum())] and stretches.pixels.tolist() == [12_000_000]
    assert stretches.starts.tolist() == [30001, 11700005, 11850000] and stretches.ends[-1] == 12_000_000


def test_every_way_to_write_a_mask() -> None:
    wanted = np.zeros((12, 10), dtype=bool)
    wanted[2:7, 3:8] = True
    flat = wanted.flatten(order="F").astype(int)
    counts = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])).tolist()
    for code in ([[3, 2, 8, 2, 8, 7, 3, 7]], {"size": [12, 10], "counts": counts}, encode_mask(wanted)):
        assert (decode_mask(compress(code, (12, 10))) == wanted).all()


def test_sums_by_part() -> None:
    assert offsets(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]
    assert (
        cumsum_by_part(np.arange(5), np.array([0, 2])).tolist() == [0, 1, 2, 5, 9]
        and cumsum_by_part(np.arange(0), np.arange(0)).tolist() == []
    )


def test_a_code_with_empty_runs_means_what_it_paints() -> None:
    """Not canonical, yet a mask: pycocotools decodes it, though its IoU may stop at an empty run."""
    uncompressed = {"size": [4, 5], "counts": [3, 2, 0, 4, 1, 0, 10]}
    code = coco_mask.frPyObjects(uncompressed, 4, 5)
    assert parse([code["counts"].decode()]).areas.tolist() == [coco_mask.decode(code).sum()] == [6]
