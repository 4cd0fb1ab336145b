import json
from pathlib import Path

import pytest
import torch

from rpe.grouping import MeanShift
from rpe.run.folder import checkpoint_of, provenance, restore_weights, write_metrics
from rpe.structures import UserError


def test_a_checkpoint_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"checkpoint must exist, got .*best.ckpt. Name a run folder that has trained"
    ):
        checkpoint_of(str(tmp_path))


def test_weights(tmp_path: Path) -> None:
    one = torch.nn.Linear(2, 3)
    torch.save({"state_dict": one.state_dict(), "epoch": 4}, tmp_path / "a.ckpt")
    other = torch.nn.Linear(2, 3)
    assert restore_weights(other, tmp_path / "a.ckpt")["epoch"] == 4 and torch.equal(one.weight, other.weight)
    with pytest.raises(
        UserError, match=r"checkpoint must fit the model, got .*: weight is \[3, 2\], not \[3, 5\]"
    ):
        restore_weights(torch.nn.Linear(5, 3), tmp_path / "a.ckpt")
    for content in ({"state_dict": 5}, [1], {}):
        torch.save(content, tmp_path / "b.ckpt")
        with pytest.raises(UserError, match="checkpoint must be one that train.py wrote, got .*b.ckpt"):
            restore_weights(other, tmp_path / "b.ckpt")


def test_a_learned_bandwidth_starts_from_the_config_where_the_checkpoint_has_none(
    tmp_path: Path,
) -> None:
    fixed, learned = (
        torch.nn.ModuleDict(
            {"model": torch.nn.ModuleDict({"grouping": MeanShift(1, bandwidth, 0.5, bandwidth is not None)})}
        )
        for bandwidth in (None, 0.3)
    )
    torch.save({"state_dict": fixed.state_dict()}, tmp_path / "fixed.ckpt")
    restore_weights(learned, tmp_path / "fixed.ckpt")
    assert learned.get_submodule("model").grouping.concentration.item() == pytest.approx(0.3**-2)  # type: ignore[union-attr]
    torch.nn.init.constant_(learned.get_submodule("model").grouping.log_bandwidth, -1)  # type: ignore[union-attr, arg-type]
    torch.save({"state_dict": learned.state_dict()}, tmp_path / "learned.ckpt")
    torch.nn.init.constant_(learned.get_submodule("model").grouping.log_bandwidth, -2)  # type: ignore[union-attr, arg-type]
    restore_weights(learned, tmp_path / "learned.ckpt")
    assert learned.get_submodule("model").grouping.log_bandwidth.item() == -1  # type: ignore[union-attr, operator]
    with pytest.raises(UserError, match=r"log_bandwidth is \[\], not None"):
        restore_weights(fixed, tmp_path / "learned.ckpt")


def test_the_table_shows_few_metrics_also_those_that_are_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_metrics(
        tmp_path,
        {f"AP{percent}": 0.2 for percent in range(50, 95)}
        | {"AR@10": 0.123456, "images": 5.0, "PQ": float("nan")},
        provenance({"data": {}}, "val", 0.0),
        "digits val",
    )
    text = capsys.readouterr().out
    assert "0.1235" in text and "│ 5 " in text and "nan" in text
    assert "4 of 48 metrics; all are in metrics.json" in text and "AP51" not in text
    assert len(provenance({"data": {}}, "val", 0.0)["commit"]) >= 7


def test_lines_beside_figures_of_zero_are_kept_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_metrics(tmp_path, {"AP50": 0.0}, {"data": {}}, "digits val", ["no mask [1.5] has it"])
    assert "note: no mask [1.5] has it" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["notes"] == ["no mask [1.5] has it"]
    write_metrics(tmp_path, {"AP50": 1.0}, {"data": {}}, "digits val")
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"metrics", "run"}
