import numpy as np
import pytest
import torch

from rpe.proposal import Proposer, image_of, select_instances, without_duplicates
from rpe.structures import Embedded, FeatureMap, InputError, Proposals, decode_mask, encode_mask

OPTIONS = dict(
    bandwidths=[0.2],
    iterations=5,
    merge_tolerance=0.01,
    move_tolerance=1e-6,
    keys=None,
    foreground=0.5,
    minimum_area=1,
    duplicate_iou=0.9,
    maximum=1000,
)


def proposer(**change: object) -> Proposer:
    return Proposer(**(OPTIONS | change))  # type: ignore[arg-type]


def painted(labels: torch.Tensor, stride: int = 1, noise: float = 0.0) -> Embedded:
    """Object k embedded at axis k, sure of what is an object."""
    points = torch.eye(4)[labels.clamp(min=0)] + noise * torch.randn(*labels.shape, 4)
    points = torch.nn.functional.normalize(points, dim=-1).permute(2, 0, 1)[None]
    logits = torch.where(labels > 0, 8.0, -8.0)[None, None]
    return Embedded(FeatureMap(points, stride), FeatureMap(logits, stride))


def squares() -> torch.Tensor:
    labels = torch.zeros(12, 16, dtype=torch.int64)
    labels[1:5, 1:7], labels[5:11, 1:7], labels[2:10, 9:15] = 1, 2, 3
    return labels


def test_each_object_becomes_its_mask_and_the_background_none() -> None:
    labels = squares()
    proposals = proposer()(painted(labels, noise=0.1), (12, 16), (12, 16))
    found = {tuple(map(tuple, decode_mask(mask))) for mask in proposals.masks}
    assert found == {tuple(map(tuple, (labels == k).numpy())) for k in (1, 2, 3)}
    assert (np.diff(proposals.scores) <= 0).all() and proposals.scores.min() > 0.9


def test_masks_at_the_original_size_follow_their_own_points() -> None:
    small = squares()
    proposals = proposer()(painted(small, stride=2), (24, 32), (48, 64))
    large = small.repeat_interleave(4, 0).repeat_interleave(4, 1).numpy()
    assert proposals.size == (48, 64)
    for k in (1, 2, 3):
        best = max((decode_mask(m) & (large == k)).sum() / (decode_mask(m) | (large == k)).sum() for m in proposals.masks)
        assert best > 0.8


def test_padding_beyond_the_image_takes_no_part() -> None:
    labels = squares()
    inside = proposer(bandwidths=[0.5])(painted(labels[:, :15]), (12, 15), (12, 15))
    padded = painted(torch.cat([labels[:, :15], torch.full((12, 20), 3)], 1))
    between = torch.nn.functional.normalize(torch.tensor([0.0, 0.0, 0.5, 1.0]), dim=0)
    padded.points.values[0, :, :, 15:] = between[:, None, None]
    found = proposer(bandwidths=[0.5])(padded, (12, 15), (12, 15))
    assert found.masks == inside.masks
    assert np.allclose(found.scores, inside.scores), "points in the padding pull no mode"


def test_several_bandwidths_give_a_hierarchy_without_duplicates() -> None:
    tilted = torch.eye(4)
    tilted[2] = torch.nn.functional.normalize(torch.tensor([0.0, 1.0, 0.7, 0.0]), dim=0)
    labels = squares()
    embedded = painted(labels)
    embedded.points.values = tilted[labels].permute(2, 0, 1)[None]
    fine = proposer()(embedded, (12, 16), (12, 16))
    both = proposer(bandwidths=[0.2, 1.0])(embedded, (12, 16), (12, 16))
    assert len(fine.masks) == 3
    assert len(both.masks) == 4, "the clump of 1 and 2 is new, the other masks are duplicates"
    assert len(proposer(bandwidths=[0.2, 1.0], maximum=2)(embedded, (12, 16), (12, 16)).masks) == 2


def test_small_masks_and_empty_images() -> None:
    labels = squares()
    assert len(proposer(minimum_area=30)(painted(labels), (12, 16), (12, 16)).masks) == 2
    empty = proposer()(painted(torch.zeros(12, 16, dtype=torch.int64)), (12, 16), (12, 16))
    assert empty.masks == [] and len(empty.scores) == 0


def test_image_of_a_batch() -> None:
    one, other = painted(squares()), painted(squares().flip(0))
    batch = Embedded(
        FeatureMap(torch.cat([one.points.values, other.points.values]), 1), FeatureMap(torch.cat([one.objectness.values, other.objectness.values]), 1)
    )
    assert torch.equal(image_of(batch, 1).points.values, other.points.values)
    assert torch.equal(image_of(batch, 0).objectness.values, one.objectness.values)


def rectangle(rows: slice, columns: slice) -> dict:
    mask = np.zeros((10, 10), dtype=bool)
    mask[rows, columns] = True
    return encode_mask(mask)


def test_without_duplicates_keeps_the_better() -> None:
    masks = [rectangle(slice(0, 10), slice(0, 10)), rectangle(slice(0, 10), slice(0, 9)), rectangle(slice(0, 5), slice(0, 5))]
    assert without_duplicates(masks, 0.85) == [0, 2] and without_duplicates(masks, 0.95) == [0, 1, 2] and without_duplicates([], 0.5) == []


def test_select_instances_best_first_and_half_must_be_left() -> None:
    masks = [
        rectangle(slice(0, 4), slice(0, 4)),
        rectangle(slice(0, 4), slice(2, 6)),
        rectangle(slice(0, 4), slice(1, 3)),
        rectangle(slice(8, 10), slice(8, 10)),
    ]
    label = select_instances(Proposals(masks, np.array([0.9, 0.8, 0.7, 0.1]), (10, 10)), threshold=0.5)
    assert (label[:4, :4] == 1).all() and (label[:4, 4:6] == 2).all(), "exactly half left is enough"
    assert label.max() == 2 and (label[8:, 8:] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bandwidths": []}, "bandwidths is empty"),
        ({"bandwidths": [3.0]}, "bandwidth 3.0"),
        ({"iterations": -1}, "iterations -1"),
        ({"foreground": 1.0}, "foreground 1.0"),
    ],
)
def test_wrong_settings(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        proposer(**change)
