"""Score a run, or a results file of any method: `rpe evaluate run=<folder>`."""

import rpe.run
from rpe.run.evaluate import evaluate

main = rpe.run.hydra_command("evaluate", evaluate)

if __name__ == "__main__":
    rpe.run.run_command(main)
