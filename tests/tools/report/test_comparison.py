import csv
import io
import math
import statistics
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from made_sweep import score, write_point, write_sweep
from omegaconf import OmegaConf

from rpe.errors import UserError
from rpe.tools.report.comparison import (
    DERIVED,
    compare,
    format_csv,
    format_override,
    parse_number,
    repeat_command,
    sort_values,
    spread,
)
from rpe.tools.report.jobs import read_sweep

CONF = Path(__file__).parent.parent.parent.parent / "conf"


def write_grid(folder: Path, listed: bool, seeds: int = 2) -> None:
    jobs = {}
    for dimension in (2, 8, 16):
        for margin in (0.3, 0.5):
            for seed in range(seeds):
                overrides = {"embedding.dimension": dimension, "loss.pairwise.margin": margin, "seed": seed}
                jobs[f"{dimension}-{margin}-{seed}"] = {
                    "experiment": "digits",
                    **overrides,
                    "trainer.max_epochs": 2,
                }
                write_point(folder / f"{dimension}-{margin}-{seed}", overrides, pictures=0)
    if listed:
        (folder / "sweep.yaml").write_text(yaml.safe_dump({"commands": [], "jobs": jobs}))


@pytest.mark.parametrize("listed", [True, False])
def test_settings_are_means_over_seeds(listed: bool, tmp_path: Path) -> None:
    write_grid(tmp_path, listed)
    comparison = compare(read_sweep(tmp_path), None)
    assert comparison.axes == {
        "embedding.dimension": [2, 8, 16],
        "loss.pairwise.margin": [0.3, 0.5],
    } or comparison.axes == {
        "loss.pairwise.margin": [0.3, 0.5],
        "embedding.dimension": [2, 8, 16],
    }
    assert len(comparison.settings) == 6 and all(len(setting.jobs) == 2 for setting in comparison.settings)
    assert comparison.best is not None and comparison.best.values == {
        "embedding.dimension": 8,
        "loss.pairwise.margin": 0.5,
    }
    both = [score({"embedding.dimension": 8, "loss.pairwise.margin": 0.5, "seed": seed}) for seed in (0, 1)]
    assert spread(comparison.best.metric_values("AR@10")) == pytest.approx(
        (statistics.mean(both), statistics.stdev(both))
    )


def test_the_command_repeats_the_best_seed_of_the_best_setting(tmp_path: Path) -> None:
    write_grid(tmp_path, listed=True)
    command = repeat_command(compare(read_sweep(tmp_path), None))
    assert (
        command
        == "python train.py experiment=digits seed=1 embedding.dimension=8 loss.pairwise.margin=0.5 trainer.max_epochs=2"
    )


def test_without_a_list_the_command_is_from_hydras_file(tmp_path: Path) -> None:
    write_grid(tmp_path, listed=False)
    overrides = [
        "experiment=coco",
        "embedding.dimension=2,8,16",
        "loss.pairwise.margin=0.3,0.5",
        "seed=0,1",
        "data.name='a b'",
    ]
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": {"task": overrides}}}))
    command = repeat_command(compare(read_sweep(tmp_path), None))
    assert command.startswith(
        "python train.py experiment=coco seed=1 embedding.dimension=8 loss.pairwise.margin=0.5"
    )


def test_several_commands_may_have_added_points(tmp_path: Path) -> None:
    write_point(tmp_path / "a", {"embedding.dimension": 3, "loss.pairwise.margin": 0.5, "seed": 0})
    write_point(tmp_path / "b", {"embedding.dimension": 3, "loss.pairwise.margin": 0.3, "seed": 0})
    jobs = {"a": {"ranker": "learned", "seed": 0}, "b": {"loss.pairwise.margin": "0.3"}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"jobs": jobs}))
    comparison = compare(read_sweep(tmp_path), None)
    # what a command did not say stands in the config, but for the choices of groups
    assert comparison.axes == {"loss.pairwise.margin": [0.3, 0.5], "ranker": ["default", "learned"]}


def test_a_metric_of_choice(tmp_path: Path) -> None:
    write_grid(tmp_path, listed=True)
    assert compare(read_sweep(tmp_path), "PQ").metric == "PQ"
    with pytest.raises(UserError, match=r"metric must be one of AR@10, AR@100.*, got AR@11"):
        compare(read_sweep(tmp_path), "AR@11")


def test_of_shares_over_the_margin_less_is_better(tmp_path: Path) -> None:
    for name, value in (("a", 0.2), ("b", 0.1)):
        write_point(tmp_path / name, {"embedding.dimension": 3, "loss.pairwise.margin": value, "seed": 0})
        (tmp_path / name / "metrics.json").write_text(
            f'{{"metrics": {{"margin_violations/X0": {value}}}, "run": {{}}}}'
        )
    best = compare(read_sweep(tmp_path), "margin_violations/X0").best
    assert best is not None and best.values == {"loss.pairwise.margin": 0.1}


def test_nothing_finished(tmp_path: Path) -> None:
    write_point(tmp_path / "a", {"embedding.dimension": 3, "loss.pairwise.margin": 0.5, "seed": 0})
    (tmp_path / "a" / "metrics.json").unlink()
    comparison = compare(read_sweep(tmp_path), "anything")
    assert comparison.best is None and repeat_command(comparison) == "" and comparison.metric == "anything"


def test_csv_holds_every_point_and_figure(tmp_path: Path) -> None:
    write_sweep(tmp_path, 24)
    rows = list(csv.DictReader(io.StringIO(format_csv(compare(read_sweep(tmp_path), None)))))
    assert (
        len(rows) == 24
        and rows[4]["state"] == "finished"
        and rows[3]["state"] == "pending"
        and rows[3]["AR@10"] == ""
    )
    assert (
        float(rows[4]["PQ"]) == score({"embedding.dimension": 2, "loss.pairwise.margin": 0.1, "seed": 4})
        and rows[4]["seed"] == "4"
    )


def test_spread() -> None:
    assert spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert spread([2.0])[0] == 2.0 and math.isnan(spread([2.0])[1]) and math.isnan(spread([])[0])


def test_values() -> None:
    assert [parse_number(value) for value in ("1e-3", "0.5", "text", "null", "[1,2]", 4)] == [
        0.001,
        0.5,
        "text",
        None,
        [1, 2],
        4,
    ]
    assert [format_override(value) for value in (0.1 + 0.2, [1, 0.5], None, True, "a")] == [
        "0.3",
        "[1,0.5]",
        "null",
        "true",
        "a",
    ]
    assert sort_values(["b", 10, 2, "a", 2]) == [2, 10, "a", "b"]


def test_derived_keys_are_interpolated_in_the_config() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=digits"])
    for key, source in DERIVED.items():
        group, name = key.split(".")
        assert OmegaConf.to_container(config[group], resolve=False)[name] == f"${{{source}}}"  # type: ignore[index,call-overload]
