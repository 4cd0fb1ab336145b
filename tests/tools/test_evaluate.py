import evaluate
from rpe.tools.evaluate import main


def test_the_clones_command_is_the_installed_one() -> None:
    assert evaluate.main is main
