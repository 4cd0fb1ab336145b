import pytest

from rpe.run.composing import compose_config
from rpe.structures import UserError


def test_a_config_as_train_py_composes_it() -> None:
    assert compose_config(["experiment=nuclei", "loss.pairwise.margin=0.3"]).grouping.margin == 0.3
    with pytest.raises(UserError, match="experiment/none"):
        compose_config(["experiment=none"])
