"""Train a network, or a sweep of them with `-m`: `rpe train experiment=digits`."""

import sys

import rpe.run
from rpe.errors import spell_commands
from rpe.run.experiments import check_choice, list_experiments

train_command = rpe.run.hydra_command("train", "rpe.sweep.train")


def main() -> None:
    """Train what the arguments choose; without arguments list the experiments."""
    if not sys.argv[1:]:
        print(spell_commands(list_experiments()))
        return
    check_choice(sys.argv[1:])
    train_command()


if __name__ == "__main__":
    rpe.run.run_command(main)
