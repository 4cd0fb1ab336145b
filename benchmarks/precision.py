"""Measure the error of one mean-shift step in half precision: `python benchmarks/precision.py`.

The error is the largest angle in degrees, over 8,192 random and clustered points, between moved points and
those in float64. The factors of the logits (kappa x and x), the weights and the values are rounded as by a
fused half-precision kernel, and all sums are kept in fp32. Two rows round only the logits, to show where the
error arises.
"""

import torch
from torch.nn.functional import normalize

PIXELS, DIM = 8192, 64


def clustered() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(12, DIM, generator=generator), dim=-1)
    member = torch.randint(12, (PIXELS,), generator=generator)
    return normalize(centres[member] + 0.4 / DIM**0.5 * torch.randn(PIXELS, DIM, generator=generator), dim=-1)


def step(
    points: torch.Tensor, kappa: float, logits: torch.dtype, values: torch.dtype, work: torch.dtype
) -> torch.Tensor:
    """Return the points after one step.

    The logits' factors are rounded to `logits`, weights and values to `values`; sums are kept in `work`.
    """
    query, key = (kappa * points).to(logits).to(work), points.to(logits).to(work)
    moved = torch.empty_like(points, dtype=work)
    for rows in torch.arange(len(points)).split(1024):
        product = query[rows] @ key.T
        weight = torch.exp(product - product.amax(1, keepdim=True))
        moved[rows] = (weight.to(values).to(work) @ points.to(values).to(work)) / weight.sum(1, keepdim=True)
    return normalize(moved.double(), dim=-1)


def main() -> None:
    generator = torch.Generator().manual_seed(1)
    data = {
        "random": normalize(torch.randn(PIXELS, DIM, generator=generator), dim=-1),
        "clustered": clustered(),
    }
    single, bf16, fp16 = torch.float32, torch.bfloat16, torch.float16
    precisions = {
        "fp32": (single, single),
        "fp16": (fp16, fp16),
        "fp16 logits, fp32 values": (fp16, single),
        "bf16": (bf16, bf16),
        "bf16 logits, fp32 values": (bf16, single),
    }
    print("| points | precision | kappa 25 | 36 | 100 |\n|---|---|---|---|---|")
    for name, points in data.items():
        exact = {
            kappa: step(points.double(), kappa, torch.float64, torch.float64, torch.float64)
            for kappa in (25.0, 36.0, 100.0)
        }
        for precision, (logits, values) in precisions.items():
            cells = []
            for kappa, reference in exact.items():
                chord = (step(points, kappa, logits, values, torch.float32) - reference).norm(dim=1)
                cells.append(f"{float(torch.rad2deg(2 * torch.asin(chord / 2)).max()):.1e}")
            print(f"| {name} | {precision} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
