"""Parts, blocks and caches give what the definition gives."""

import numpy as np
import pytest
from scipy import ndimage

from rpe.data.thinning import segment_changes, thin
from rpe.metric.boundary import annotators as module
from rpe.metric.boundary.annotators import Annotators
from rpe.metric.boundary.matching import match_boundaries


def scene(seed: int, people: int = 3) -> tuple[np.ndarray, list[np.ndarray]]:
    """A strength of boundaries and some people's boundaries that resemble it."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.standard_normal((120, 150)), 6)
    truths = []
    for _ in range(people):
        moved = field + ndimage.gaussian_filter(random.standard_normal(field.shape), 5) * 0.4
        truths.append(
            thin(segment_changes(np.digitize(moved, np.quantile(moved, [0.3, 0.7])).astype(np.int64)))
        )
    strength = ndimage.gaussian_gradient_magnitude(field, 1) + 0.003 * ndimage.gaussian_filter(
        random.random(field.shape), 1
    )
    return strength / strength.max(), truths


@pytest.mark.parametrize("block", [1, 20, 10**6])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_whole_graphs(seed: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIXELS_PER_SOLVE", block)
    monkeypatch.setattr(module, "matching_distance", lambda _: 4.3)
    strength, truths = scene(seed)
    annotators = Annotators(truths)
    for threshold in (0.05, 0.2, 0.21, 0.4, 0.6, 0.2):
        thinned = thin(strength >= threshold)
        matched = annotators.match(thinned)
        plain = [match_boundaries(thinned, truth, 4.3) for truth in truths]
        assert matched.found.tolist() == [int(found.sum()) for _, found in plain]
        # not only as many: ties are settled by the pixels, not by the order in which they come
        assert (matched.predicted == np.any([predicted for predicted, _ in plain], axis=0)).all()


def test_one_annotators_union_has_as_many_pixels_as_are_found() -> None:
    strength, truths = scene(5, people=1)
    matched = Annotators(truths).match(thin(strength >= 0.2))
    assert matched.predicted.sum() == matched.found.sum() > 50


def test_parts_that_recur_are_not_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    strength, truths = scene(0)
    annotators = Annotators(truths)
    first = annotators.match(thin(strength >= 0.3))
    monkeypatch.setattr(module, "assign_in_blocks", None)
    again = annotators.match(thin(strength >= 0.3))
    assert (first.predicted == again.predicted).all() and (first.found == again.found).all()


def test_annotators_keep_apart() -> None:
    truth = np.zeros((60, 80), dtype=bool)
    truth[30, 10:70] = True
    moved = np.roll(truth, 20, axis=0)
    matched = Annotators([truth, moved, truth, np.zeros_like(truth)]).match(truth)
    assert matched.found.tolist() == [60, 0, 60, 0] and (matched.predicted == truth).all()


def test_nothing_predicted() -> None:
    _, truths = scene(0)
    matched = Annotators(truths).match(np.zeros_like(truths[0]))
    assert not matched.predicted.any() and not matched.found.any()
