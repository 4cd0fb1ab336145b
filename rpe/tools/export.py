"""Export a run as programs that need nothing of this package.

`torch.export` writes the network and the loops. They are read back and compared with the run's own on random
input of several sizes before a file is written.
"""

import io
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.export import Dim

from rpe.grouping import mean_shift
from rpe.grouping.exportable import FixedMeanShift
from rpe.network.model import BoundaryDetector, PixelEmbedding
from rpe.run.trained import load_run
from rpe.run_files import write_whole
from rpe.sphere import check_bandwidth, concentration_of_bandwidth, normalise
from rpe.structures import UserError, check_count
from rpe.tools.command import read_arguments, run_tool
from rpe.tools.onnx_program import OPSET, find_missing, open_onnx, to_onnx

DEFAULTS: dict[str, Any] = {
    "run": None,
    "output": None,
    "height": None,
    "width": None,
    "iterations": None,
    "bandwidth": None,
    "pixels": 500,
    "onnx": False,
}

USAGE = """
Write a run's network and its loops as programs of torch.export, equal to the run's own within 1e-5:

  python -m rpe.tools.export run=<run folder> [key=value ...]

  output      a folder (<run>/export): embedding.pt2, grouping.pt2, and export.json on inputs and outputs
  height, width   of the images that it is tried on; export.json tells whether it takes other sizes
  iterations  loops of the grouping (the run's grouping.iterations); 0 exports no grouping
  bandwidth   of the grouping (the run's)
  pixels      points that the grouping is tried on (500); it takes any number
  onnx        true also writes embedding.onnx and grouping.onnx, equal within 1e-4 in onnxruntime, for
              programs without torch such as docs/onnx_groups.py (false)

Load one where torch is installed: torch.export.load("embedding.pt2").module()(images)
"""

MAX_DIFFERENCE = 1e-5
"""The largest accepted difference between a program and the run."""

MAX_ONNX_DIFFERENCE = 1e-4
"""The same for onnxruntime, whose kernels are others."""


class ExportedNetwork(nn.Module):
    """A run's network, with a tuple of tensors as output; `outputs` are their names."""

    def __init__(self, network: PixelEmbedding | BoundaryDetector) -> None:
        super().__init__()
        self.network = network
        self.outputs = [
            "fused",
            *(f"points-{stage}" for stage in range(1, 1 + len(getattr(network, "embeddings", [])))),
        ]
        if isinstance(network, PixelEmbedding):
            self.outputs = [
                "points",
                "objectness",
                *(["classes"] if hasattr(network.objectness, "classes") else []),
            ]

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> tuple[Tensor, ...]:
        """Return the outputs of the network.

        Those of an embedding are points, objectness and, where known, class logits. Those of a boundary
        detector are the fused logit and each stage's points.
        """
        if isinstance(self.network, BoundaryDetector):
            found = self.network.detect(images)
            return (found.fused.values, *(stage.values for stage in found.points))
        embedded = self.network.embed(images)
        classes = () if embedded.classes is None else (embedded.classes.values,)
        return (embedded.points.values, embedded.objectness.values, *classes)


class Program(NamedTuple):
    """An exported program.

    Args:
        content: the file.
        any_size: height and width of the input are free.
        differences: the largest difference from the run, by size of the input.
        max_difference: the largest accepted one.
    """

    content: bytes
    any_size: bool
    differences: dict[str, float]
    max_difference: float = MAX_DIFFERENCE


class Traced(NamedTuple):
    """A program of torch.export, and what it is compared with.

    Args:
        program: the program.
        inputs: inputs of several sizes, by size.
        eager: the run's own function.
        any_size: height and width of the input are free.
    """

    program: Any
    inputs: dict[str, tuple[Tensor, ...]]
    eager: Callable[..., tuple[Tensor, ...]]
    any_size: bool


def trace_network(network: ExportedNetwork, multiple: int, height: int, width: int) -> Traced:
    """Trace the network for any batch, and for any size that is a multiple where torch can trace it.

    Raises:
        UserError: torch cannot trace the network.
    """
    images = torch.rand(2, 3, height, width)
    free = {0: Dim("batch", min=1), 2: multiple * Dim("rows", min=2), 3: multiple * Dim("columns", min=2)}
    refusal: Exception | None = None
    for shapes in (free, {0: free[0]}):
        try:
            with constant_padding():
                program = torch.export.export(network, (images,), dynamic_shapes=(shapes,))
            break
        except Exception as error:  # tracing a model may raise anything
            refusal = error
    else:
        raise UserError(
            f"backbone must be one that torch can trace, got {str(refusal).strip().splitlines()[0]}. "
            "Train another one."
        ) from refusal
    sizes = [(2, height, width), (1, height, width), (3, height, width)]
    if shapes is free:
        sizes += [(1, height + multiple, 2 * width), (2, 2 * multiple, width + 3 * multiple)]
    return Traced(
        program,
        {
            f"{batch} x {rows} x {columns}": (torch.rand(batch, 3, rows, columns),)
            for batch, rows, columns in sizes
        },
        network,
        shapes is free,
    )


@contextmanager
def constant_padding() -> Iterator[None]:
    """Make the "same" padding of timm's layers a constant while a network is traced.

    timm computes it from the size of each layer's input. In a trace with free sizes these formulas nest, and
    torch needs minutes to compare two of them. The sizes here are multiples of every stride, so that the
    padding depends on kernel and stride alone.
    """
    padding = sys.modules.get("timm.layers.padding")
    if padding is None:
        yield
        return

    def pad(side: object, kernel: int, stride: int, dilation: int) -> int:
        return max((kernel - 1) * dilation + 1 - stride, 0)

    of_size = padding.get_same_padding
    padding.get_same_padding = pad  # type: ignore[attr-defined]
    try:
        yield
    finally:
        padding.get_same_padding = of_size  # type: ignore[attr-defined]


def trace_grouping(grouping: FixedMeanShift, dimension: int, pixels: int) -> Traced:
    """Trace the loops for any batch and number of points."""
    batch, length = Dim("batch", min=1), Dim("pixels", min=1)
    shapes = ({0: batch, 1: length}, {0: batch, 1: length})
    program = torch.export.export(grouping, random_points(2, pixels, dimension), dynamic_shapes=shapes)
    sizes = [(2, pixels), (1, 2 * pixels + 1), (3, 1 + pixels // 3)]

    def loops(points: Float[Tensor, "batch pixel dim"], mask: Bool[Tensor, "batch pixel"]) -> tuple[Tensor]:
        kappa = float(grouping.concentration)
        return (mean_shift(points, kappa, grouping.iterations, mask=mask)[-1],)

    return Traced(
        program,
        {f"{images} x {count}": random_points(images, count, dimension) for images, count in sizes},
        loops,
        True,
    )


def random_points(batch: int, pixels: int, dimension: int) -> tuple[Tensor, Tensor]:
    """Return random points on the sphere, and a mask that excludes a tenth of them."""
    return normalise(torch.randn(batch, pixels, dimension)), torch.rand(batch, pixels) > 0.1


@torch.no_grad()
def compare_program(
    program: Any,
    inputs: dict[str, tuple[Tensor, ...]],
    eager: Callable[..., tuple[Tensor, ...]],
    any_size: bool,
) -> Program:
    """Return the program as bytes, with its differences from `eager` on each input after it is read back."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\..*")
        torch.export.save(program, stream)
        loaded = torch.export.load(io.BytesIO(stream.getvalue())).module()
    differences = {}
    for name, given in inputs.items():
        found = loaded(*given)
        differences[name] = largest_difference(
            found if isinstance(found, tuple | list) else (found,), eager(*given)
        )
    return Program(stream.getvalue(), any_size, differences)


def largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference between two lists of tensors; NaN on either side is an infinite one."""
    pairs = zip(found, expected, strict=True)
    return max(float((one - other).abs().nan_to_num(float("inf")).max()) for one, other in pairs)


@torch.no_grad()
def convert_program(traced: Traced, outputs: list[str]) -> Program:
    """Return a traced program as ONNX, with its differences in onnxruntime.

    Raises:
        UserError: the extra is missing.
    """
    if missing := find_missing():
        raise UserError(
            f"onnx must be false, got true without {missing[0]}. Install its extra: pip install 'rpe[onnx]'"
        )
    content = to_onnx(traced.program, outputs)
    run = open_onnx(content)
    differences = {
        name: largest_difference(run(*given), traced.eager(*given)) for name, given in traced.inputs.items()
    }
    return Program(content, traced.any_size, differences, MAX_ONNX_DIFFERENCE)


def main(arguments: list[str]) -> int:
    """Export, compare and write; return 1 where a program differs, and write nothing then."""
    values = read_arguments(arguments, DEFAULTS, USAGE)
    if values["bandwidth"] is not None:
        check_bandwidth(values["bandwidth"])
    trained = load_run(values["run"])
    network: PixelEmbedding | BoundaryDetector = next(
        part for part in trained.task.children() if isinstance(part, PixelEmbedding | BoundaryDetector)
    )
    multiple = network.backbone.multiple
    height, width = (choose_side(name, values[name], multiple) for name in ("height", "width"))
    check_count("pixels", values["pixels"], 3, "it is the number of points that the grouping is tried on")
    torch.manual_seed(0)
    wrapped = ExportedNetwork(network)
    traced = {"embedding": trace_network(wrapped, multiple, height, width)}
    any_size = traced["embedding"].any_size
    size = f"multiples of {multiple}, {2 * multiple} or more" if any_size else [height, width]
    about: dict[str, Any] = {
        "embedding.pt2": {
            "images": "float32 [batch, 3, height, width] in [0, 1]",
            "height, width": size,
            "multiple": multiple,
            "outputs": wrapped.outputs,
        }
    }
    grouping = build_grouping(network, values["iterations"], values["bandwidth"])
    if grouping is None:
        print("grouping.pt2 is not written, as there are no loops; iterations=5 would write five")
    else:
        stage: Any = network.embedding if isinstance(network, PixelEmbedding) else network.embeddings[0]
        dimension = int(stage.dimension)
        traced["grouping"] = trace_grouping(grouping, dimension, values["pixels"])
        about["grouping.pt2"] = {
            "points": f"float32 [batch, pixel, {dimension}] of unit length",
            "mask": "bool [batch, pixel]: False for missing points",
            "outputs": [f"points after {grouping.iterations} loops"],
            "bandwidth": float(grouping.concentration) ** -0.5,
        }
    programs = {f"{name}.pt2": compare_program(*one) for name, one in traced.items()}
    if values["onnx"]:
        for name, one in traced.items():
            outputs = wrapped.outputs if name == "embedding" else ["moved"]
            programs[f"{name}.onnx"] = convert_program(one, outputs)
            about[f"{name}.onnx"] = about[f"{name}.pt2"] | {"opset": OPSET}
    return write_programs(programs, about, Path(values["output"] or Path(values["run"]) / "export"))


def choose_side(name: str, value: Any, multiple: int) -> int:
    """Return a side of the images that the network is tried on.

    Raises:
        UserError: the side is not a multiple of the network's stride.
    """
    if value is None:
        return max(64 - 64 % multiple, 4 * multiple)
    check_count(name, value, multiple, f"it is in pixels, and a multiple of {multiple}")
    if value % multiple:
        raise UserError(
            f"{name} must be a multiple of {multiple} for this network, got {value}. "
            f"Set {name}={-(-value // multiple) * multiple}."
        )
    return int(value)


def build_grouping(
    network: PixelEmbedding | BoundaryDetector, iterations: int | None, bandwidth: float | None
) -> FixedMeanShift | None:
    """Return the run's loops with the given number and bandwidth; None where there are none."""
    own = network.grouping
    count = own.iterations if iterations is None else iterations
    concentration = float(own.concentration) if bandwidth is None else concentration_of_bandwidth(bandwidth)
    return FixedMeanShift(concentration, count) if count else None


def write_programs(programs: dict[str, Program], about: dict[str, Any], folder: Path) -> int:
    """Print the differences; write all files where each is small enough, and none otherwise."""
    for name, program in programs.items():
        about[name]["differences"] = program.differences
        for size, difference in program.differences.items():
            print(
                f"{name}  {size:>16}  largest difference {difference:.1e}"
                f"{'' if difference <= program.max_difference else '  TOO LARGE'}"
            )
    if not all(
        difference <= program.max_difference
        for program in programs.values()
        for difference in program.differences.values()
    ):
        print(
            "nothing is written: a program differs from the run by too much; "
            "points between two modes multiply rounding errors with each loop,"
        )
        print("more so at a small bandwidth: fewer iterations or a larger bandwidth help the grouping")
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        write_whole(folder / name, program.content)
    write_whole(folder / "export.json", json.dumps(about, indent=2) + "\n")
    print(f"written: {folder}")
    return 0


if __name__ == "__main__":
    run_tool(main)
