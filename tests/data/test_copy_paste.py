import numpy as np
import torch

from rpe.data.copy_paste import paste
from rpe.data.module import Sample


def sample(labels: list[list[int]], grey: float, image_id: int, classes: list[int]) -> Sample:
    ids = torch.tensor(labels)
    return Sample(torch.full((3, *ids.shape), grey), ids, image_id, (9, 9), torch.tensor([0, *classes]))


def test_objects_in_front_cover_what_lies_behind_and_labels_stay_dense() -> None:
    front = sample([[1, 1, 0, -1], [2, 0, 0, 0]], 1.0, 5, [7, 8])
    behind = sample([[1, 1, 2, 2], [3, 3, 0, -1]], 0.0, 6, [1, 2, 3])
    seen = set()
    for seed in range(20):
        mixed = paste(front, behind, np.random.default_rng(seed))
        copied = mixed.image[0] == 1
        assert mixed.image_id == 6 and mixed.size == (9, 9)
        assert not bool(copied[0, 3]) and mixed.labels[1, 3] == -1, "void is not copied, and stays"
        kinds = mixed.categories[mixed.labels.clamp(min=0)]
        assert torch.equal(kinds[copied], torch.tensor([0, 7, 8])[front.labels[copied]])
        assert torch.equal(kinds[~copied], torch.tensor([0, 1, 2, 3])[behind.labels.clamp(min=0)[~copied]])
        assert mixed.labels.unique().tolist() == [-1, *range(len(mixed.categories))]
        seen.add((bool(copied[0, 0]), bool(copied[1, 0])))
    assert seen == {(True, False), (False, True), (True, True)}, "a random part of the objects, at least one"


def test_nothing_in_front_changes_nothing() -> None:
    behind = sample([[1, 0]], 0.5, 1, [4])
    assert paste(sample([[0, -1]], 1.0, 2, []), behind, np.random.default_rng(0)) is behind
