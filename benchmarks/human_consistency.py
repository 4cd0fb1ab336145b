"""How well people agree on boundaries: each annotator against the others of the same image, counts pooled (published: F 0.803 on test).

python benchmarks/human_consistency.py [train | val | test]      reads BSDS500 from RPE_DATA_DIR
"""

import sys
import time

from rpe.data.bsds import read_annotations, split_files
from rpe.data.module import data_root
from rpe.metric.boundary import count_among, f_measure, of_table


def main() -> None:
    split = sys.argv[1] if len(sys.argv) > 1 else "test"
    started = time.monotonic()
    files = split_files(data_root() / "BSR", split)
    pooled = of_table(
        sum(
            count_among([one.boundaries for one in read_annotations(truth)]).table()
            for _, truth in files.values()
        )
    )
    recall, precision = pooled.recall(), pooled.precision()
    figures = f"recall {recall[0]:.4f}, precision {precision[0]:.4f}, F {f_measure(recall, precision)[0]:.4f}"
    print(f"{split}: {len(files)} images, {figures} ({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    main()
