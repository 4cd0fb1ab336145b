"""The list of experiments, as `train.py` alone prints it."""

from collections.abc import Callable

import pytest

import train
from rpe.run.experiments import check_choice, experiments_of_task, options_of_group, read_needs
from rpe.structures import UserError


def test_train_alone_lists_each_experiment_and_what_it_needs(
    command_line: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command_line(train.main)
    lines = capsys.readouterr().out.splitlines()
    for name in options_of_group("experiment"):
        assert len([line for line in lines if line.split()[0] == f"experiment={name}"]) == 1
    assert "  experiment=nuclei           needs DSB2018 under $RPE_DATA_DIR/nuclei" in lines


def test_experiments_of_a_task() -> None:
    for task in ("boundary", "rpe.task.boundary.BoundaryTask"):
        assert experiments_of_task(task) == ["bsds", "bsds_scratch"]
    assert (
        "digits_semantic" in experiments_of_task("semantic")
        and "digits" in experiments_of_task("instance")
        and experiments_of_task("none") == []
    )
    assert read_needs()["digits"].startswith("no data")


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
        (["task=boundary"], "Add experiment=bsds or experiment=bsds_scratch;"),
        (["experimnt=digits"], r"got neither\. Did you mean experiment\? Add"),
        (["dta=coco"], r"got neither\. Did you mean data\? Add"),
    ):
        with pytest.raises(UserError, match=line):
            check_choice(arguments)
