import pytest
import torch

from rpe.head import Objectness
from rpe.structures import FeatureMap, InputError


def test_one_logit_a_cell_in_single_precision() -> None:
    head = Objectness(channels=6, hidden=4, subdivision=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(FeatureMap(torch.randn(2, 6, 5, 3), 2))
    assert logits.stride == 2 and logits.values.shape == (2, 1, 5, 3) and logits.values.dtype == torch.float32


def test_subdivision_gives_a_finer_grid_over_the_same_image() -> None:
    head = Objectness(channels=6, hidden=4, subdivision=2)
    feature = FeatureMap(torch.zeros(1, 6, 5, 3), 4)
    feature.values[0, :, 2, 1] = 1
    logits = head(feature)
    assert logits.stride == 2 and logits.values.shape == (1, 1, 10, 6)
    base = head(FeatureMap(torch.zeros(1, 6, 5, 3), 4)).values
    changed = (logits.values != base).nonzero()[:, 2:].tolist()
    assert changed == [[4, 2], [4, 3], [5, 2], [5, 3]], "the four quarters of cell (2, 1)"


def test_subdivision_must_divide_the_stride() -> None:
    with pytest.raises(InputError, match=r"head.subdivision 2 does not divide backbone.stride 1"):
        Objectness(channels=6, hidden=4, subdivision=2)(FeatureMap(torch.zeros(1, 6, 5, 3), 1))
    with pytest.raises(InputError, match=r"head.subdivision 0 is below 1"):
        Objectness(channels=6, hidden=4, subdivision=0)
