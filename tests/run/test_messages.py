"""Errors of a user's and bugs are told apart."""

from collections.abc import Callable

from hydra.errors import HydraException

import predict
from rpe.run.messages import explain_error, summarise_error
from rpe.structures import UserError


def test_what_hydra_cannot_parse_is_told_with_the_remedy(refused: Callable[..., str]) -> None:
    for argument in ("images=['a.png',b(1).png]", "images=['a.png',[1].png]", "data.name=a(b"):
        line = refused(predict.main, "run=weights/nuclei", argument)
        assert "quote each name that holds brackets" in line and "hydra.cc" not in line, line


def test_user_errors_are_explained_and_bugs_are_not() -> None:
    assert explain_error(UserError("a")) == "a" and explain_error(HydraException("b\nfull_key: x")) == "b"
    assert (
        explain_error(PermissionError(13, "Permission denied", "/x"))
        == "/x must be writable, got Permission denied. Name another folder, such as hydra.run.dir=outputs/mine"
    )
    for fault in (
        FileNotFoundError(2, "No such file", "/x"),
        ValueError("x"),
        TypeError("x"),
        ZeroDivisionError("x"),
        AssertionError("x"),
        KeyError("x"),
    ):
        assert explain_error(fault) is None


def test_additions_of_a_worker_are_removed() -> None:
    wrapped = UserError(
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback ...\nrpe.errors.UserError: image x must decode\n"
    )
    assert summarise_error(wrapped) == "image x must decode"
