from pathlib import Path

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn
from written_run import SMALL, write_run

from rpe.grouping import mean_shift
from rpe.grouping.exportable import FixedMeanShift
from rpe.run.trained import load_run
from rpe.structures import UserError
from rpe.tools.export import (
    ExportedNetwork,
    Program,
    compare_program,
    main,
    random_points,
    trace_grouping,
    trace_network,
    write_programs,
)

pytestmark = pytest.mark.usefixtures("plain")
"""Checks of shapes compare them, and what is traced through a comparison holds for these shapes alone."""


@pytest.mark.parametrize(("bandwidth", "dimension", "iterations"), [(0.1, 3, 4), (0.3, 64, 5), (2.0, 8, 3)])
def test_the_loops_are_those_of_mean_shift(bandwidth: float, dimension: int, iterations: int) -> None:
    grouping = FixedMeanShift(bandwidth**-2, iterations)
    exported = compare_program(*trace_grouping(grouping, dimension, 90))
    assert len(exported.differences) == 3 and max(exported.differences.values()) <= 1e-5


def test_a_detector_is_exported_with_all_its_stages(tmp_path: Path) -> None:
    small = [
        "experiment=bsds_scratch",
        f"data.root={tmp_path}",
        "backbone.width=4",
        "embedding.hidden=4",
        "head.hidden=4",
    ]
    detector = load_run(str(write_run(tmp_path / "run", *small))).task.model
    network = ExportedNetwork(detector)
    multiple = detector.backbone.multiple
    exported = compare_program(*trace_network(network, multiple, 2 * multiple, 3 * multiple))
    assert exported.any_size and max(exported.differences.values()) <= 1e-5
    assert network.outputs == [
        "fused",
        *(f"points-{stage}" for stage in range(1, 1 + len(detector.embeddings))),
    ]
    assert len(network(torch.rand(1, 3, 2 * multiple, 2 * multiple))) == len(network.outputs)


class StridedLayers(nn.Sequential):
    """Two of timm's layers whose padding is a formula of their input's size."""

    outputs = ("features",)

    def __init__(self) -> None:
        super().__init__(Conv2dSame(3, 4, 3, stride=2), Conv2dSame(4, 4, 5, stride=2))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        return (super().forward(images),)


def test_padding_of_timm_is_constant_in_a_trace() -> None:
    """A formula of the size in the trace, of all layers one upon another, took minutes to simplify."""
    traced = trace_network(StridedLayers(), 4, 16, 24)  # type: ignore[arg-type]
    shapes = [str(node.meta["val"].shape) for node in traced.program.graph.nodes if "val" in node.meta]
    assert traced.any_size and not [shape for shape in shapes if "Max" in shape]
    assert max(compare_program(*traced).differences.values()) == 0


def test_classes_are_an_output_of_their_own(tmp_path: Path) -> None:
    model = load_run(
        str(
            write_run(
                tmp_path / "run", *SMALL, "head=semantic", "loss=semantic", "head.classes=10", "head.hidden=8"
            )
        )
    ).task.model
    network = ExportedNetwork(model)
    assert (
        network.outputs == ["points", "objectness", "classes"] and len(network(torch.rand(1, 3, 16, 16))) == 3
    )


def test_a_difference_is_found_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grouping = FixedMeanShift(10.0, 2)
    given = random_points(1, 20, 3)
    program = torch.export.export(grouping, given)

    def other(points: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (mean_shift(points, 10.5, 2, mask=mask)[-1],)

    exported = compare_program(program, {"1 x 20": given}, other, True)
    assert exported.differences["1 x 20"] > 1e-4
    nothing = compare_program(program, {"1 x 20": given}, lambda points, mask: (points * float("nan"),), True)
    for bad in (exported, nothing):
        good = Program(b"content", True, {"1 x 20": 0.0})
        assert (
            write_programs({"a.pt2": good, "b.pt2": bad}, {"a.pt2": {}, "b.pt2": {}}, tmp_path / "out") == 1
        )
        assert "TOO LARGE" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_slips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run must be a run folder, got none"):
        main([])
    with pytest.raises(
        UserError, match="run folder must be one that train.py wrote, got .*, which does not exist"
    ):
        main([f"run={tmp_path / 'none'}"])
    run = write_run(tmp_path / "run", *SMALL)
    with pytest.raises(
        UserError, match="height must be a multiple of 8 for this network, got 44. Set height=48"
    ):
        main([f"run={run}", "height=44"])
    with pytest.raises(UserError, match="pixels must be an integer >= 3, got 2"):
        main([f"run={run}", "pixels=2"])
    with pytest.raises(UserError, match="iterations must be an integer >= 0, got -1"):
        main([f"run={run}", "iterations=-1"])
    with pytest.raises(UserError, match=r"bandwidth must be in \[0.02, 2.0\], got 7"):
        main([f"run={run}", "bandwidth=7"])
    with pytest.raises(UserError, match="bandwidth must be a number, got abc"):
        main([f"run={run}", "bandwidth=abc"])
    assert not (run / "export").exists()
