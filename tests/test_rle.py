"""Thousands of masks at a time against pycocotools, one at a time."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rpe.rle import (
    compress,
    count_pixels,
    cumsum_by_part,
    decode_mask,
    encode_labels,
    encode_mask,
    find_close_masks,
    mask_area,
    mask_box,
    merge_masks,
    offsets,
    pairwise_iou,
    parse,
    slice_masks,
)

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


def test_measures_are_those_of_the_pixels() -> None:
    masks = some_masks((23, 31))
    codes = [encode_mask(mask) for mask in masks]
    flat = np.stack(masks).reshape(len(masks), -1).astype(int)
    shared, areas = flat @ flat.T, flat.sum(1)
    union = areas[:, None] + areas - shared
    assert np.allclose(pairwise_iou(codes, codes), shared / np.maximum(union, 1))
    assert np.allclose(pairwise_iou(codes, codes, crowd=True), shared / np.maximum(areas, 1)[:, None])
    assert pairwise_iou([], codes).shape == (0, 12) and pairwise_iou(codes, []).shape == (12, 0)
    for mask, code in zip(masks, codes, strict=True):
        rows, columns = np.nonzero(mask)
        corners = (
            (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) if len(rows) else (0,) * 4
        )
        assert mask_area(code) == mask.sum() and mask_box(code) == corners
    assert (decode_mask(merge_masks(codes[2:6])) == np.any(masks[2:6], axis=0)).all()
    assert (decode_mask(merge_masks(codes[8:], intersect=True)) == np.all(masks[8:], axis=0)).all()


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


def test_masks_survive_their_code() -> None:
    mask = np.random.default_rng(0).random((7, 11)) > 0.5
    code = encode_mask(mask)
    assert code["size"] == [7, 11] and isinstance(code["counts"], str)
    assert (decode_mask(code) == mask).all()


def test_masks_of_a_label_map_in_one_pass_are_those_one_by_one() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        labels = generator.integers(0, 4, size=tuple(generator.integers(1, 9, size=2)))
        assert encode_labels(labels, np.arange(4)) == [encode_mask(labels == label) for label in range(4)]


def test_pixels_of_run_lengths() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        height, width = random.integers(1, 400, 2)
        mask = random.random((height, width)) < random.choice([0.001, 0.1, 0.5, 0.99])
        counts = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
        assert count_pixels(counts) == height * width
        if len(counts) > 4:
            assert count_pixels(counts[:-2]) != height * width
    assert (
        count_pixels([3, 4, 5]) == 12
        and count_pixels(
            coco_mask.frPyObjects({"size": [3, 4], "counts": [3, 4, 5]}, 3, 4)["counts"].decode()
        )
        == 12
    )
    for wrong in ([-1, 13], [1.5], "", "P", "\x01", "\u00e4", None, 3, "o" * 20 + "0"):
        assert count_pixels(wrong) == -1 or count_pixels(wrong) == 0
