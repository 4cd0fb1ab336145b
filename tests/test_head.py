import torch

from rpe.head import Objectness
from rpe.structures import FeatureMap


def test_one_logit_a_cell_in_single_precision() -> None:
    head = Objectness(channels=6, hidden=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(FeatureMap(torch.randn(2, 6, 5, 3), 2))
    assert logits.stride == 2 and logits.values.shape == (2, 1, 5, 3) and logits.values.dtype == torch.float32
