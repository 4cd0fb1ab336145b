"""Train: `python train.py experiment=digits [group=option] [group.key=value]`.

`-m` sweeps; `--help` lists groups and keys.
"""

import rpe.run
from rpe.tools.train import main

if __name__ == "__main__":
    rpe.run.run_command(main)
