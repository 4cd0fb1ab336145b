"""Measure how well annotators agree on boundaries: each against the others, counts pooled.

    python benchmarks/human_consistency.py [train | val | test]

The published F is 0.803 on test. BSDS500 is read from RPE_DATA_DIR.
"""

import sys
import time

from rpe.data.bsds import read_drawings, split_files
from rpe.data.module import data_root
from rpe.metric.boundary import count_between_annotators, counts_from_table, f_measure


def main() -> None:
    split = sys.argv[1] if len(sys.argv) > 1 else "test"
    started = time.monotonic()
    files = split_files(data_root() / "BSR", split)
    pooled = counts_from_table(
        sum(
            count_between_annotators([one.boundaries for one in read_drawings(truth)]).table()
            for _, truth in files.values()
        )
    )
    recall, precision = pooled.recall(), pooled.precision()
    metrics = f"recall {recall[0]:.4f}, precision {precision[0]:.4f}, F {f_measure(recall, precision)[0]:.4f}"
    print(f"{split}: {len(files)} images, {metrics} ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
