import numpy as np

from rpe.rle import encode_mask
from rpe.segment import select_instances
from rpe.structures import Proposals


def rectangle(rows: slice, columns: slice) -> dict:
    mask = np.zeros((10, 10), dtype=bool)
    mask[rows, columns] = True
    return encode_mask(mask)


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
