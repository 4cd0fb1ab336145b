import math

import numpy as np
import pytest

from rpe.metric.partition import adjusted_rand_index


def test_same_partition_under_other_names() -> None:
    assert adjusted_rand_index(np.array([1, 1, 2, 2, 3]), np.array([7, 7, 0, 0, 4])) == 1.0


def test_hand_computed() -> None:
    # 2 of 6 pairs joined in each, 1 in both: (1 - 4/6) / (2 - 4/6)
    assert adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])) == pytest.approx(
        (1 - 2 * 3 / 6) / (2.5 - 1)
    )
    assert math.isnan(adjusted_rand_index(np.array([], dtype=np.int64), np.array([], dtype=np.int64)))
