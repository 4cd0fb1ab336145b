"""Speed and memory of grouping and loss beside what a user would write instead: `make benchmark`, or `python benchmarks/engine.py 4096 16384`.

Each row is its own process, so that its peak memory is its own. Dense is `torch.softmax(kappa X X^T, -1) @ X` as it stands; the authors'
formulation is their MATLAB code's: kernel, diagonal of inverse sums and product, each a matrix of its own. Data: 12 centres, spread
0.4 / sqrt(D) a coordinate, seed 0. Floor: 4 N^2 D operations (two products) over the matrix-product rate of the same machine.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.nn.functional import normalize

from rpe.grouping import find_modes, mean_shift
from rpe.loss import pairwise_margin_loss

KAPPA = 36.0
MEMORY_GIB = 18
LONGEST_SECONDS = 300
RUN_ONCE_SECONDS = 120
SIZES = (4096, 16384, 65536, 307200)
DIMENSIONS = (3, 16, 64)
MATRICES = {"dense": 3, "authors": 4, "dense loss": 8}
"""About how many N x N matrices in fp32 a method holds at once in forward and backward."""


def clustered(pixels: int, dim: int, groups: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and the centre that each belongs to."""
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(groups, dim, generator=generator), dim=-1)
    member = torch.randint(groups, (pixels,), generator=generator)
    return normalize(centres[member] + 0.4 / dim**0.5 * torch.randn(pixels, dim, generator=generator), dim=-1), member


def dense(points: torch.Tensor) -> torch.Tensor:
    return torch.softmax(KAPPA * points @ points.T, -1) @ points


def authors(points: torch.Tensor) -> torch.Tensor:
    kernel = torch.exp(KAPPA * (points @ points.T - 1))
    inverse = torch.diag(1 / kernel.sum(0))
    return normalize((points.T @ (kernel @ inverse)).T, dim=-1)


def dense_loss(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    similarity = (1 + points @ points.T) / 2
    same = labels[:, None] == labels
    weight = 1 / torch.bincount(labels)[labels].to(points.dtype)
    pair = weight[:, None] * weight
    return (pair * torch.where(same, 1 - similarity, (similarity - 0.5).clamp(min=0))).sum() / pair.sum()


def sklearn_modes(points: torch.Tensor) -> None:
    from sklearn.cluster import MeanShift

    MeanShift(bandwidth=0.5, bin_seeding=True).fit(points.numpy())


def merging(points: torch.Tensor) -> None:
    find_modes(points, KAPPA, iterations=10, merge_tolerance=0.01, move_tolerance=1e-6)


def ten_loops(points: torch.Tensor) -> None:
    final = mean_shift(points[None], KAPPA, 10)[-1][0]
    find_modes(final, KAPPA, iterations=0, merge_tolerance=0.01, move_tolerance=0.0)


def job(method: str, points: torch.Tensor, member: torch.Tensor) -> tuple[Callable[[], object], Callable[[], object] | None]:
    """What is timed: forward without gradient, and forward with backward where there is one."""
    with_gradient = points.clone().requires_grad_()
    if method in ("ours", "dense", "authors"):
        step = {"ours": lambda x: mean_shift(x[None], KAPPA, 1)[-1], "dense": dense, "authors": authors}[method]
        return lambda: step(points), lambda: step(with_gradient).sum().backward()
    if method in ("our loss", "dense loss"):
        loss = {"our loss": lambda x: pairwise_margin_loss(x[None], member[None], 0.5), "dense loss": lambda x: dense_loss(x, member)}[method]
        return lambda: loss(points), lambda: loss(with_gradient).backward()
    return {"merging": lambda: merging(points), "ten loops": lambda: ten_loops(points), "sklearn": lambda: sklearn_modes(points)}[method], None


def timed(call: Callable[[], object]) -> float:
    """Median of 5 after 2 warm-ups; once where the first takes over two minutes."""
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    if first > RUN_ONCE_SECONDS:
        return first
    seconds = []
    for index in range(6):
        start = time.perf_counter()
        call()
        if index > 0:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(method: str, pixels: int, dim: int) -> None:
    """One row, as JSON on stdout."""
    points, member = clustered(pixels, dim)
    forward, both = job(method, points, member)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        seconds = [timed(forward)]
    peaks = [(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]
    if both is not None:
        seconds.append(timed(both))
        peaks.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    print(json.dumps({"seconds": seconds, "mebibytes": peaks}))


def measured(method: str, pixels: int, dim: int) -> dict[str, list[float]] | str:
    """A row in its own process, or why there is none."""
    if MATRICES.get(method, 0) * pixels**2 * 4 > MEMORY_GIB * 2**30:
        return f"needs {MATRICES[method] * pixels**2 * 4 / 2**30:.0f} GiB"
    command = [sys.executable, __file__, "row", method, str(pixels), str(dim)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"stopped after {LONGEST_SECONDS} s"
    except subprocess.CalledProcessError as error:
        return f"exit {error.returncode}"
    return json.loads(done.stdout)


def matrix_rate() -> float:
    """Operations a second of a 4096^3 product in fp32."""
    matrix = torch.randn(4096, 4096)
    return 2 * 4096**3 / timed(lambda: matrix @ matrix)


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or list(SIZES)
    rate = matrix_rate()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s in a matrix product\n")
    print("| N | D | what | forward s | forward + backward s | peak MiB | peak with backward | forward / floor |")
    print("|---|---|---|---|---|---|---|---|")
    for pixels in sizes:
        for dim in DIMENSIONS:
            for method in ("ours", "dense", "authors", "our loss", "dense loss", "merging", "ten loops", "sklearn"):
                row = measured(method, pixels, dim)
                if isinstance(row, str):
                    print(f"| {pixels} | {dim} | {method} | {row} | | | | |", flush=True)
                    continue
                seconds, peaks = row["seconds"], row["mebibytes"]
                floor = 4 * pixels**2 * dim / rate
                both = (f"{seconds[1]:.3f}", f"{peaks[1]:.0f}") if len(seconds) > 1 else ("", "")
                share = f"{seconds[0] / floor:.1f}" if method in ("ours", "dense", "authors") else ""
                print(f"| {pixels} | {dim} | {method} | {seconds[0]:.3f} | {both[0]} | {peaks[0]:.0f} | {both[1]} | {share} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["row"]:
        measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
