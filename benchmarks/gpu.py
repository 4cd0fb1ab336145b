"""Measure in minutes what needs a GPU; on the CPU it runs in small, to be sure that it runs.

    python benchmarks/gpu.py [device=cuda] [size=full] [batch=16] [steps=20]
    python benchmarks/gpu.py device=cpu size=small

One table: images per second of experiment=voc in training at two crops, in fp32, in bf16 and compiled, with
the share of grouping and loss and the peak memory; the difference that bf16 makes; one exact mean-shift step
of a whole image in 64 dimensions against the rate of matrix products; a step with sampled keys against the
exact one. Images and labels are random and the backbone has no weights, so no data are needed. A step is that
of benchmarks/profile_step.py, whose graph is cut between the parts.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from profile_step import CONF, Stopwatch, step

import rpe.run
from rpe.callbacks.compile import compiled_parts
from rpe.grouping import mean_shift
from rpe.grouping.kernel import mean_over_keys
from rpe.sphere import cosine_distance, normalise
from rpe.structures import InstanceBatch
from rpe.task.instance import InstanceTask

SIZES: dict[str, dict[str, Any]] = {
    "full": {"crops": (256, 512), "pixels": 307200, "batch": 16, "steps": 20, "matrix": 8192},
    "small": {"crops": (64, 128), "pixels": 8192, "batch": 2, "steps": 3, "matrix": 1024},
}
"""Crops, pixels of the whole image, images and steps of a measurement, and the side of the matrix product."""

DIM, KAPPA, KEYS, GROUPS = 64, 36.0, 4096, 40
OBJECTS = 5
PARITY_STEPS = 5


def wait(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class WaitingStopwatch(Stopwatch):
    """A stopwatch whose parts end when the device has finished them."""

    def lap(self, part: str) -> None:
        wait(DEVICE)
        super().lap(part)


DEVICE = torch.device("cpu")


def peak_mib() -> float:
    """Return the peak memory: of the GPU since its last reset, or of the process (Linux)."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def reset_peak() -> None:
    """Start the peak memory anew; the process's own needs Linux to allow it."""
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def build_task(crop: int) -> InstanceTask:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=voc", "backbone.weights=null", f"data.crop={crop}"])
    torch.manual_seed(0)
    task = rpe.run.build_task(config)
    assert isinstance(task, InstanceTask)
    return task.to(DEVICE).train()


def random_batch(images: int, crop: int, seed: int) -> InstanceBatch:
    """Return noise with objects: squares on a background."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(images, crop, crop, dtype=torch.int64)
    for image in labels:
        for number in range(1, OBJECTS + 1):
            row, column = (int(one) for one in torch.randint(3 * crop // 4, (2,), generator=generator))
            image[row : row + crop // 4, column : column + crop // 4] = number
    pixels = torch.rand(images, 3, crop, crop, generator=generator)
    categories = [torch.ones(OBJECTS + 1, dtype=torch.int64, device=DEVICE)] * images
    sizes = [(crop, crop)] * images
    return InstanceBatch(pixels.to(DEVICE), labels.to(DEVICE), list(range(images)), sizes, categories)


def train_steps(
    crop: int, images: int, steps: int, half: bool = False, backend: str | None = None
) -> tuple[list[dict[str, float]], list[float]]:
    """Return the seconds of each part of each step after two, and the losses of all."""
    task = build_task(crop)
    optimizer = task.optimizer(task)
    if backend is not None:
        for part in compiled_parts(task):
            part.compile(backend=backend, dynamic=False)
    parts, losses = [], []
    for index in range(steps + 2):
        batch = random_batch(images, crop, index)
        wait(DEVICE)
        watch = WaitingStopwatch()
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=half):
            losses.append(step(task, optimizer, batch, index, watch))
        parts.append(watch.parts)
    return parts[2:], losses


def training_row(name: str, crop: int, images: int, steps: int, **options: Any) -> list[str]:
    """Return a row: seconds of a step, images per second, share of grouping and loss, peak memory."""
    reset_peak()
    parts, _ = train_steps(crop, images, steps, **options)
    seconds = statistics.median(sum(one.values()) for one in parts)
    ours = statistics.median(
        sum(value for part, value in one.items() if part.startswith(("grouping", "loss", "choice")))
        for one in parts
    )
    note = f"{images} images of {crop} x {crop}: {images / seconds:.1f} images/s; grouping and loss "
    return [name, f"{seconds:.3f}", f"{peak_mib():.0f}", f"{note}{100 * ours / seconds:.0f} %"]


def parity_row(crop: int, images: int) -> list[str]:
    """Return a row: by how much the first losses in bf16 differ from those in fp32."""
    full, half = (train_steps(crop, images, PARITY_STEPS - 2, half)[1] for half in (False, True))
    worst = max(abs(one - other) / abs(one) for one, other in zip(full, half, strict=True))
    return ["bf16 against fp32", "", "", f"largest relative difference of {len(full)} losses: {worst:.1e}"]


def median_seconds(call: Callable[[], object], calls: int = 5) -> float:
    """Return the median time of a call after one that warms up."""
    seconds = []
    for _ in range(calls + 1):
        start = time.perf_counter()
        call()
        wait(DEVICE)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def clustered(pixels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = normalise(torch.randn(GROUPS, DIM, generator=generator))
    member = torch.randint(GROUPS, (pixels,), generator=generator)
    noise = 0.4 / DIM**0.5 * torch.randn(pixels, DIM, generator=generator)
    return normalise(centres[member] + noise).to(DEVICE)


@torch.no_grad()
def step_rows(pixels: int, side: int) -> list[list[str]]:
    """Return the rows of the matrix product, the exact step and the step with sampled keys."""
    matrix = torch.randn(side, side, device=DEVICE)
    reset_peak()
    seconds = median_seconds(lambda: matrix @ matrix)
    rate = 2 * side**3 / seconds
    rows = [[f"product of two {side} x {side}", f"{seconds:.4f}", "", f"{rate / 1e12:.3f} TFLOP/s in fp32"]]
    points = clustered(pixels)
    reset_peak()
    seconds = median_seconds(lambda: mean_shift(points[None], KAPPA, 1)[-1], calls=2)
    over = seconds * rate / (4 * pixels**2 * DIM)
    name = f"exact step, {pixels:,} pixels, D = {DIM}"
    rows.append([name, f"{seconds:.3f}", f"{peak_mib():.0f}", f"{over:.2f} times the floor of two products"])
    drawn = torch.randperm(pixels, generator=torch.Generator().manual_seed(0))[:KEYS].to(DEVICE)
    ones = torch.ones(pixels, device=DEVICE)
    reset_peak()
    seconds = median_seconds(lambda: mean_over_keys(points, points[drawn], ones[: len(drawn)], KAPPA))
    some = slice(0, pixels, max(1, pixels // 4096))
    exact = mean_shift(points[None], KAPPA, 1)[-1][0, some]
    sampled = normalise(mean_over_keys(points[some], points[drawn], ones[: len(drawn)], KAPPA))
    angle = torch.rad2deg(torch.acos(1 - cosine_distance(exact, sampled)))
    note = f"degrees to the exact step: median {float(angle.median()):.2f}, at most {float(angle.max()):.2f}"
    return [*rows, [f"step with {len(drawn):,} keys", f"{seconds:.3f}", f"{peak_mib():.0f}", note]]


def main() -> None:
    global DEVICE
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    DEVICE = torch.device(given.get("device", "cuda" if torch.cuda.is_available() else "cpu"))
    size = SIZES[given.get("size", "full")]
    images, steps = int(given.get("batch", size["batch"])), int(given.get("steps", size["steps"]))
    device = (
        torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    )
    print(f"torch {torch.__version__}, {device}, size {given.get('size', 'full')}\n")
    print("| what | seconds | peak MiB | |\n|---|---|---|---|", flush=True)
    small = min(size["crops"])

    def show(row: list[str]) -> None:
        print(f"| {' | '.join(row)} |", flush=True)

    for crop in size["crops"]:
        for name, options in (
            ("training step, fp32", {}),
            ("training step, bf16", {"half": True}),
            ("training step, fp32, compiled", {"backend": given.get("backend", "inductor")}),
        ):
            if options.get("backend") != "none":
                show(training_row(name, crop, images, steps, **options))
    show(parity_row(small, images))
    for row in step_rows(size["pixels"], size["matrix"]):
        show(row)


if __name__ == "__main__":
    main()
