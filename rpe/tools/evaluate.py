"""Score a run, or a results file of any method: `rpe evaluate run=<folder>`."""

import rpe.run

main = rpe.run.hydra_command("evaluate", "rpe.run.evaluate.evaluate")

if __name__ == "__main__":
    rpe.run.run_command(main)
