"""Segment images: `rpe predict run=<folder> images=<file, folder or pattern> output=<folder>`."""

import rpe.run

main = rpe.run.hydra_command("predict", "rpe.run.predict.predict")

if __name__ == "__main__":
    rpe.run.run_command(main)
