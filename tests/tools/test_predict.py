import predict
from rpe.tools.predict import main


def test_the_clones_command_is_the_installed_one() -> None:
    assert predict.main is main
