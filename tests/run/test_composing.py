import pytest

from rpe.run.composing import composed
from rpe.structures import UserError


def test_a_config_as_the_door_composes_it() -> None:
    assert composed(["experiment=nuclei", "loss.margin=0.3"]).grouping.margin == 0.3
    with pytest.raises(UserError, match="experiment/none"):
        composed(["experiment=none"])
