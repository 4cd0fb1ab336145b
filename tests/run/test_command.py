import rpe.command
import rpe.run.command


def test_it_is_the_one_parser() -> None:
    assert rpe.run.command.command is rpe.command.command and rpe.run.command.read_arguments is rpe.command.read_arguments
