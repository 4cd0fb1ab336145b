"""The list of experiments, as `train.py` alone prints it."""

from collections.abc import Callable

import pytest

import train
from rpe.run.experiments import check_choice, experiments_of, needs, options_of_group
from rpe.structures import UserError


def test_train_alone_lists_each_experiment_and_what_it_needs(
    door: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    door(train.main)
    lines = capsys.readouterr().out.splitlines()
    for name in options_of_group("experiment"):
        assert len([line for line in lines if line.split()[0] == f"experiment={name}"]) == 1
    assert "  experiment=nuclei           needs DSB2018 under $RPE_DATA_DIR/nuclei" in lines


def test_experiments_of_a_task() -> None:
    assert experiments_of("boundary") == ["bsds"] == experiments_of("rpe.task.boundary.BoundaryTask")
    assert (
        "digits_semantic" in experiments_of("semantic")
        and "digits" in experiments_of("instance")
        and experiments_of("none") == []
    )
    assert needs()["digits"].startswith("nothing")


def test_a_training_chooses_its_data() -> None:
    for arguments in (
        ["experiment=digits"],
        ["data=coco", "data.root=x"],
        ["resume=x"],
        ["--help"],
        ["-m", "experiment=digits,nuclei"],
    ):
        check_choice(arguments)
    for arguments, line in (
        (["-m", "seed=0,1"], "Add experiment=bsds or"),
        (["task=boundary"], "Add experiment=bsds;"),
    ):
        with pytest.raises(UserError, match=line):
            check_choice(arguments)
