import numpy as np
import pytest
import torch
from painted import painted, squares
from skimage.measure import label as connected_regions

from rpe.rle import decode_mask, encode_mask
from rpe.segment import HeuristicRanker, Proposer
from rpe.segment.groups import split_masks
from rpe.segment.proposer import drop_duplicates
from rpe.structures import Geometry, NetworkOutput, Proposals, UserError

OPTIONS = dict(
    bandwidths=[0.2],
    iterations=[5],
    merge_tolerance=0.01,
    move_tolerance=1e-6,
    max_keys=None,
    spatial_bandwidth=None,
    split_components=False,
    foreground_thresholds=[0.5],
    views=1,
    min_area=1,
    nms_iou=0.9,
    max_proposals=1000,
    score_threshold=0.5,
)


def proposer(**change: object) -> Proposer:
    return Proposer(**(OPTIONS | change), ranker=HeuristicRanker(channels=4, typical_area=0.1))  # type: ignore[arg-type]


def propose(
    output: NetworkOutput, network_size: tuple[int, int], size: tuple[int, int], **change: object
) -> Proposals:
    return proposer(**change)(output, Geometry(network_size, size))


def test_each_object_becomes_its_mask_and_the_background_none() -> None:
    labels = squares()
    proposals = propose(painted(labels, noise=0.1), (12, 16), (12, 16))
    found = {tuple(map(tuple, decode_mask(mask))) for mask in proposals.masks}
    assert found == {tuple(map(tuple, (labels == k).numpy())) for k in (1, 2, 3)}
    assert (np.diff(proposals.scores) <= 0).all() and proposals.scores.min() > 0.8


def test_masks_at_the_original_size_follow_their_own_points() -> None:
    small = squares()
    proposals = propose(painted(small, stride=2), (24, 32), (48, 64))
    large = small.repeat_interleave(4, 0).repeat_interleave(4, 1).numpy()
    assert proposals.size == (48, 64)
    for k in (1, 2, 3):
        best = max(
            (decode_mask(m) & (large == k)).sum() / (decode_mask(m) | (large == k)).sum()
            for m in proposals.masks
        )
        assert best > 0.8


def test_connected_parts_of_one_group_are_masks_of_their_own() -> None:
    labels = squares()
    labels[labels == 3] = 1  # far from the first rectangle, with the same points
    small = (labels == 1) & (torch.arange(16) < 8)
    proposals = propose(painted(labels), (12, 16), (12, 16), split_components=True)
    found = [decode_mask(mask) for mask in proposals.masks]
    wanted = [small, (labels == 1) & ~small, labels == 2, labels == 1]
    assert len(found) == 4, "the clump of both stays beside them, object 2, connected already, comes once"
    assert all(any((mask == one.numpy()).all() for mask in found) for one in wanted)


def pieces_of(mask: np.ndarray) -> int:
    return int(connected_regions(mask, connectivity=2, return_num=True)[1])


def test_with_a_spatial_bandwidth_look_alikes_are_masks_of_their_own() -> None:
    """Both groups have the same mode, so that the nearest mode alone would give all pixels to the first."""
    labels = squares()
    alike = torch.where(labels == 3, 1, labels)  # far from the first
    proposals = propose(painted(alike, noise=0.0), (12, 16), (12, 16), spatial_bandwidth=1.0)
    found = {tuple(map(tuple, decode_mask(mask))) for mask in proposals.masks}
    assert found == {tuple(map(tuple, (labels == k).numpy())) for k in (1, 2, 3)}


def test_at_most_so_many_masks_with_their_parts() -> None:
    labels = squares()
    labels[labels == 3] = 1
    assert (
        len(propose(painted(labels), (12, 16), (12, 16), split_components=True, max_proposals=2).masks) == 2
    )


def test_parts_are_connected_at_the_original_size_too() -> None:
    """Cells that touch at a corner alone fall apart once their pixels follow points of their own."""
    torch.manual_seed(0)
    labels = torch.zeros(16, 16, dtype=torch.int64)
    for place in range(8):
        labels[2 * place : 2 * place + 2, 2 * place : 2 * place + 2] = 1
    labels[:, 10:][labels[:, 10:] == 0] = 2
    output = painted(labels, noise=0.5, stride=2)
    found = {}
    for components in (False, True):
        settings = proposer(split_components=components, min_area=0, bandwidths=[0.4])
        found[components] = list(settings.partitions(output, Geometry((32, 32), (64, 64))))
    (whole, _), (parts, scores) = found[True]
    assert (whole == found[False][0][0]).all() and max(
        pieces_of(whole == k) for k in range(1, whole.max() + 1)
    ) > 1
    assert parts.max() == len(scores) > 2 and all(
        pieces_of(parts == k) == 1 for k in range(1, len(scores) + 1)
    )


def test_a_few_pixels_astray_score_less_than_what_they_are_astray_of() -> None:
    labels = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 2]])
    parts, scores = split_masks(labels, np.array([0.8, 0.6]))
    assert parts.tolist() == [[1, 1, 0, 2], [1, 1, 0, 0], [0, 0, 0, 3]] and scores.tolist() == pytest.approx(
        [0.8, 0.2, 0.6]
    )
    nothing, none = split_masks(np.zeros((3, 4), dtype=np.int64), np.zeros(0))
    assert not nothing.any() and len(none) == 0


def test_padding_beyond_the_image_takes_no_part() -> None:
    labels = squares()
    inside = propose(painted(labels[:, :15]), (12, 15), (12, 15), bandwidths=[0.5])
    padded = painted(torch.cat([labels[:, :15], torch.full((12, 20), 3)], 1))
    between = torch.nn.functional.normalize(torch.tensor([0.0, 0.0, 0.5, 1.0]), dim=0)
    padded.points.values[0, :, :, 15:] = between[:, None, None]
    found = propose(padded, (12, 15), (12, 15), bandwidths=[0.5])
    assert found.masks == inside.masks
    assert np.allclose(found.scores, inside.scores), "points in the padding pull no mode"


def test_several_bandwidths_give_a_hierarchy_without_duplicates() -> None:
    tilted = torch.eye(4)
    tilted[2] = torch.nn.functional.normalize(torch.tensor([0.0, 1.0, 0.7, 0.0]), dim=0)
    labels = squares()
    output = painted(labels)
    output.points.values = tilted[labels].permute(2, 0, 1)[None]
    fine = propose(output, (12, 16), (12, 16))
    both = propose(output, (12, 16), (12, 16), bandwidths=[0.2, 1.0])
    assert len(fine.masks) == 3
    assert len(both.masks) == 4, "the clump of 1 and 2 is new, the other masks are duplicates"
    assert len(propose(output, (12, 16), (12, 16), bandwidths=[0.2, 1.0], max_proposals=2).masks) == 2


def test_small_masks_and_empty_images() -> None:
    labels = squares()
    assert len(propose(painted(labels), (12, 16), (12, 16), min_area=30).masks) == 2
    empty = propose(painted(torch.zeros(12, 16, dtype=torch.int64)), (12, 16), (12, 16))
    assert empty.masks == [] and len(empty.scores) == 0


def rectangle(rows: slice, columns: slice) -> dict:
    mask = np.zeros((10, 10), dtype=bool)
    mask[rows, columns] = True
    return encode_mask(mask)


def test_without_duplicates_keeps_the_better() -> None:
    masks = [
        rectangle(slice(0, 10), slice(0, 10)),
        rectangle(slice(0, 10), slice(0, 9)),
        rectangle(slice(0, 5), slice(0, 5)),
    ]
    assert (
        drop_duplicates(masks, 0.85) == [0, 2]
        and drop_duplicates(masks, 0.95) == [0, 1, 2]
        and drop_duplicates([], 0.5) == []
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bandwidths": []}, r"bandwidths must hold one or more numbers, got \[\]"),
        ({"bandwidths": [3.0]}, r"bandwidth must be in \[0.02, 2.0\], got 3.0"),
        ({"iterations": [5, -1]}, r"iterations must be >= 0, got \[5, -1\]"),
        ({"iterations": []}, "iterations must hold one or more"),
        (
            {"spatial_bandwidth": 0.0},
            r"spatial_bandwidth must be in \[1e-06, 1e\+06\] pixels, or null, got 0.0",
        ),
        ({"merge_tolerance": 1.0}, r"merge_tolerance must be in \[0, 1\), got 1.0"),
        ({"foreground_thresholds": [1.0]}, r"foreground_thresholds must be in \(0, 1\), got"),
        ({"foreground_thresholds": []}, "foreground_thresholds must hold one or more"),
    ],
)
def test_wrong_settings(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        proposer(**change)


def test_each_foreground_threshold_has_partitions_of_its_own() -> None:
    labels = squares()
    output = painted(labels, noise=0.0)
    # the first object is less sure than the others
    output.objectness.values[0, 0][labels == 1] = 0.5
    sure = [
        len(propose(output, (12, 16), (12, 16), foreground_thresholds=gates).masks)
        for gates in ([0.5], [0.9], [0.5, 0.9])
    ]
    assert sure == [3, 2, 3]
