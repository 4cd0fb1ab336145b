"""Measure speed and memory of grouping and loss beside plain implementations: `make benchmark`.

Each row runs in its own process, so that its peak memory is its own: the highest resident set above that
before the first call (VmHWM of the process itself; ru_maxrss would inherit the parent's). "Dense" is
`torch.softmax(kappa X X^T, -1) @ X`. "Authors" is the formulation of their MATLAB code: kernel, diagonal of
inverse sums and product, each a matrix of its own. The data are 12 centres with a spread of 0.4 / sqrt(D) per
coordinate, seed 0. The floor is 4 N^2 D operations (two products) over the matrix-product rate of the same
machine.

A row is the median of 5 calls after 2 warm-ups. If that would take over two minutes, it is one call, marked
by a star. Rows that do not fit give the reason. Rows are kept in a file, with the matrix rate beside it, so
that the table can be made in pieces. `--sizes`, `--dimensions` and `--methods` choose rows; rows in the file
are not measured again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.metrics import adjusted_rand_score
from torch.nn.functional import normalize

from rpe.grouping import find_modes, mean_shift
from rpe.grouping.kernel import mean_over_keys
from rpe.loss import pairwise_margin_loss
from rpe.sphere import cosine_distance, normalise

KAPPA = 36.0
MEMORY_GIB = 18
LONGEST_SECONDS = 300
ROW_SECONDS = 120
WARM_UPS, CALLS = 2, 7
BACKWARD_UP_TO_SECONDS = 40
SIZES = (4096, 16384, 65536, 307200)
DIMENSIONS = (3, 16, 64)
MATRICES = {"dense": 3, "authors": 6, "dense loss": 8}
"""Approximate number of N x N fp32 matrices that a method holds at once in forward and backward."""

PAIRWISE = ("ours", "dense", "authors", "our loss", "dense loss", "ten loops")
"""Methods whose time grows with N^2, so that a smaller row predicts a larger one."""

ONCE_A_SIZE = {"sklearn": 16, "merging": 32, "ten loops": 32, "whole image": 64}
"""Methods that are measured at one dimension only, with that dimension."""

METHODS = (
    "ours",
    "dense",
    "authors",
    "our loss",
    "dense loss",
    "merging",
    "ten loops",
    "sklearn",
    "whole image",
)
KEYS = 4096
TOLERANCE = {"merge_tolerance": 0.01, "move_tolerance": 1e-6}

Row = dict[str, object]


def clustered(
    pixels: int, dim: int, groups: int = 12, spread: float = 0.4
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random points around centres, and the centre of each."""
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(groups, dim, generator=generator), dim=-1)
    member = torch.randint(groups, (pixels,), generator=generator)
    return normalize(
        centres[member] + spread / dim**0.5 * torch.randn(pixels, dim, generator=generator), dim=-1
    ), member


def dense_step(points: torch.Tensor) -> torch.Tensor:
    return torch.softmax(KAPPA * points @ points.T, -1) @ points


def authors_step(points: torch.Tensor) -> torch.Tensor:
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


def merging(points: torch.Tensor, member: torch.Tensor) -> Row:
    modes = find_modes(points, KAPPA, iterations=10, **TOLERANCE)
    return {"ARI to the centres": adjusted_rand_score(member, modes.labels)}


def ten_loops(points: torch.Tensor, member: torch.Tensor) -> Row:
    final = mean_shift(points[None], KAPPA, 10)[-1][0]
    labels = find_modes(final, KAPPA, iterations=0, **TOLERANCE).labels
    merged = find_modes(points, KAPPA, iterations=10, **TOLERANCE).labels
    return {"ARI to merging": adjusted_rand_score(merged, labels)}


def whole_image() -> tuple[Callable[[], object], Callable[[], Row]]:
    """Return the call for 640 x 480 pixels (64 dimensions, 40 groups, 2 % noise), and its quality."""
    points, member = clustered(307200, 64, groups=40)
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(len(points), generator=generator) < 0.02
    points[noise] = normalize(torch.randn(int(noise.sum()), 64, generator=generator), dim=-1)

    def call() -> torch.Tensor:
        return find_modes(points, KAPPA, iterations=10, keys=KEYS, **TOLERANCE).labels

    def quality() -> Row:
        some = torch.randperm(len(points), generator=generator)[:16384]
        drawn = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:KEYS]
        ones = torch.ones(len(points))
        exact = normalise(mean_over_keys(points[some], points, ones, KAPPA))
        sampled = normalise(mean_over_keys(points[some], points[drawn], ones[:KEYS], KAPPA))
        planted = ~noise[some]
        angle = torch.rad2deg(torch.acos(1 - cosine_distance(exact, sampled)))
        return {
            "ARI over planted pixels": adjusted_rand_score(member[~noise], call()[~noise]),
            "degrees to the exact step, planted": [
                float(angle[planted].median()),
                float(angle[planted].max()),
            ],
            "degrees to the exact step, noise": [
                float(angle[~planted].median()),
                float(angle[~planted].max()),
            ],
        }

    return call, quality


def build_calls(
    method: str, points: torch.Tensor, member: torch.Tensor
) -> tuple[Callable[[], object], Callable[[], object] | None]:
    """Return the timed calls: forward without gradient, and forward with backward if the method has one."""
    with_gradient = points.clone().requires_grad_()
    if method in ("ours", "dense", "authors"):
        step = {
            "ours": lambda x: mean_shift(x[None], KAPPA, 1)[-1],
            "dense": dense_step,
            "authors": authors_step,
        }[method]
        return lambda: step(points), lambda: step(with_gradient).sum().backward()
    if method in ("our loss", "dense loss"):
        loss = {
            "our loss": lambda x: pairwise_margin_loss(x[None], member[None], 0.5),
            "dense loss": lambda x: dense_loss(x, member),
        }[method]
        return lambda: loss(points), lambda: loss(with_gradient).backward()
    if method == "ten loops":
        return lambda: find_modes(
            mean_shift(points[None], KAPPA, 10)[-1][0], KAPPA, iterations=0, **TOLERANCE
        ), None
    if method == "merging":
        return lambda: find_modes(points, KAPPA, iterations=10, **TOLERANCE), None
    return lambda: sklearn_modes(points), None


def is_single(seconds: float) -> bool:
    """Return True if a call took so long that its row is a single call."""
    return CALLS * seconds > ROW_SECONDS


def time_calls(call: Callable[[], object]) -> float:
    """Return the median of 5 calls after 2 warm-ups; only the first call if a row would take too long."""
    seconds: list[float] = []
    while len(seconds) < CALLS:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        if is_single(seconds[0]):
            return seconds[0]
    return statistics.median(seconds[WARM_UPS:])


def memory_mib(field: str) -> float:
    """Return VmRSS (memory now), VmHWM (peak) or another field of this process in MiB; Linux only."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return next(
        int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(field)
    )


def measure(method: str, pixels: int, dim: int) -> Row:
    """Measure one row in this process."""
    quality: Callable[[], Row] | None = None
    both: Callable[[], object] | None = None
    if method == "whole image":
        forward, quality = whole_image()
    else:
        points, member = clustered(pixels, dim)
        forward, both = build_calls(method, points, member)
        if method in ("merging", "ten loops"):
            quality = lambda: {"merging": merging, "ten loops": ten_loops}[method](points, member)  # noqa: E731
    before = memory_mib("VmRSS")
    with torch.no_grad():
        seconds = [time_calls(forward)]
        peaks = [memory_mib("VmHWM") - before]
    slow = seconds[0] > BACKWARD_UP_TO_SECONDS
    if both is not None and not slow:
        seconds.append(time_calls(both))
        peaks.append(memory_mib("VmHWM") - before)
    note = quality() if quality is not None else {}
    if both is not None and slow:
        note["backward"] = f"left out, as a forward takes over {BACKWARD_UP_TO_SECONDS} s"
    return {"method": method, "N": pixels, "D": dim, "seconds": seconds, "mebibytes": peaks, "note": note}


def predict_seconds(method: str, pixels: int, rows: list[Row], dim: int) -> float:
    """Predict a forward call's seconds by the N^2 law from the largest smaller row; 0 without one."""
    smaller = [
        row
        for row in rows
        if (row["method"], row["D"]) == (method, dim) and row["N"] < pixels and "seconds" in row
    ]
    if method not in PAIRWISE or not smaller:
        return 0.0
    last = max(smaller, key=lambda row: row["N"])
    return last["seconds"][0] * (pixels / last["N"]) ** 2


def measure_in_process(method: str, pixels: int, dim: int, rows: list[Row], longest: float) -> Row:
    """Measure a row in its own process; without a result, return the reason."""
    row: Row = {"method": method, "N": pixels, "D": dim}
    gib = MATRICES.get(method, 0) * pixels**2 * 4 / 2**30
    if gib > MEMORY_GIB:
        return row | {"reason": f"left out: needs about {gib:.0f} GiB"}
    if method == "merging" and pixels > 65536:
        return row | {"reason": "left out, as are the ten loops that it is compared with"}
    predicted = predict_seconds(method, pixels, rows, dim)
    if predicted > longest:
        return row | {"reason": f"left out: about {predicted:.0f} s by the N^2 law"}
    command = [sys.executable, __file__, "--row", method, str(pixels), str(dim)]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=longest)
    except subprocess.TimeoutExpired:
        return row | {"reason": f"stopped after {longest:.0f} s"}
    except subprocess.CalledProcessError as error:
        return row | {"reason": f"exit {error.returncode} after {time.perf_counter() - start:.0f} s"}
    return json.loads(done.stdout.splitlines()[-1])


def matrix_rate() -> float:
    """Return operations per second of a 4096^3 product in fp32."""
    matrix = torch.randn(4096, 4096)
    return 2 * 4096**3 / time_calls(lambda: matrix @ matrix)


def format_table(rows: list[Row], rate: float) -> str:
    """Return all rows as a Markdown table."""
    lines = [
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{rate / 1e9:.0f} GFLOP/s in a matrix product; *: one call",
        "",
        "| N | D | method | forward s | with backward s | peak MiB | with backward | over floor | notes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["N"], row["D"], METHODS.index(row["method"]))):
        start = f"| {row['N']:,} | {row['D']} | {row['method']} |"
        if "reason" in row:
            lines.append(f"{start} | | | | | {row['reason']} |")
            continue
        seconds = [f"{value:.3f}{'*' * is_single(value)}" for value in row["seconds"]]
        peaks = [f"{value:.0f}" for value in row["mebibytes"]]
        share = (
            f"{row['seconds'][0] * rate / (4 * row['N'] ** 2 * row['D']):.1f}"
            if row["method"] in ("ours", "dense", "authors")
            else ""
        )
        cells = [
            seconds[0],
            seconds[1] if len(seconds) > 1 else "",
            peaks[0],
            peaks[1] if len(peaks) > 1 else "",
            share,
            format_note(row["note"]),
        ]
        lines.append(f"{start} {' | '.join(cells)} |")
    return "\n".join(lines)


def format_note(note: dict[str, float | str | list[float]]) -> str:
    """Return the quality of a row's result as text."""

    def text(value: float | str | list[float]) -> str:
        if isinstance(value, list):
            return f"median {value[0]:.2f}, at most {value[1]:.2f}"
        return value if isinstance(value, str) else f"{value:.4f}"

    return "; ".join(f"{name}: {text(value)}" for name, value in note.items())


def format_ratios(rows: list[Row]) -> str:
    """Return our speed and memory over the best other method, row by row, as a Markdown table.

    One of our steps is compared with all of sklearn's only if that is the only other method.
    """
    found = {(row["method"], row["N"], row["D"]): row for row in rows if "seconds" in row}
    lines = [
        "| N | D | method | forward | with backward | peak memory, forward | with backward |",
        "|---|---|---|---|---|---|---|",
    ]
    for (method, pixels, dim), ours in sorted(found.items(), key=lambda item: item[0][1:]):
        others = {"ours": ("dense", "authors"), "our loss": ("dense loss",), "merging": ("ten loops",)}.get(
            method, ()
        )
        rivals = [found[other, pixels, dim] for other in others if (other, pixels, dim) in found]
        if method == "ours" and not rivals and ("sklearn", pixels, dim) in found:
            others, rivals = ("sklearn",), [found["sklearn", pixels, dim]]
        if not rivals:
            continue
        cells = []
        for field, index in (("seconds", 0), ("seconds", 1), ("mebibytes", 0), ("mebibytes", 1)):
            best = [rival[field][index] for rival in rivals if index < len(rival[field])]
            cells.append(
                f"{min(best) / max(ours[field][index], 1e-9):.1f}"
                if best and index < len(ours[field])
                else ""
            )
        lines.append(f"| {pixels:,} | {dim} | {method} over {others[0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def list_rows(sizes: list[int], dimensions: list[int], methods: list[str]) -> list[tuple[str, int, int]]:
    """Return method, size and dimension of every requested row."""
    return [
        (method, pixels, dim)
        for pixels in sizes
        for method in methods
        for dim in ([ONCE_A_SIZE[method]] if method in ONCE_A_SIZE else dimensions)
        if method != "whole image" or pixels == 307200
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--dimensions", type=int, nargs="+", default=DIMENSIONS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument(
        "--longest", type=float, default=LONGEST_SECONDS, help="seconds after which a row is stopped"
    )
    parser.add_argument("--file", type=Path, default=Path("outputs/engine.jsonl"), help="where rows are kept")
    parser.add_argument(
        "--row", nargs=3, metavar=("METHOD", "N", "D"), help="measure one row in this process"
    )
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row[0], int(options.row[1]), int(options.row[2]))))
        return
    options.file.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        [json.loads(line) for line in options.file.read_text().splitlines()] if options.file.exists() else []
    )
    rate_file = options.file.with_suffix(".rate")
    if not rate_file.exists():
        rate_file.write_text(f"{matrix_rate()}")
    for method, pixels, dim in list_rows(options.sizes, options.dimensions, options.methods):
        if any((row["method"], row["N"], row["D"]) == (method, pixels, dim) for row in rows):
            continue
        rows.append(measure_in_process(method, pixels, dim, rows, options.longest))
        print(json.dumps(rows[-1]), flush=True)
        with options.file.open("a") as file:
            file.write(json.dumps(rows[-1]) + os.linesep)
    print(
        f"\n{format_table(rows, float(rate_file.read_text()))}\n\nOther over ours:\n\n{format_ratios(rows)}"
    )


if __name__ == "__main__":
    main()
