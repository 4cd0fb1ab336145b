"""One process at a time: in a run folder, and on a GPU. Locks are the operating system's and end with the process that holds them, however it ends."""

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rpe.structures import UserError

EVERY = 0.5
"""Seconds between two tries."""

UNLOCKABLE = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)
"""What file systems without locks answer, some network ones among them: there, two commands on one folder are the user's care."""


@contextmanager
def held(folder: Path, waiting: str | None) -> Iterator[None]:
    """Hold a folder that is there; the folder itself is locked, so nothing is left in it.

    Args:
        folder: that is there.
        waiting: what is said while another process holds it; with None nobody waits.

    Raises:
        UserError: another process holds it, and nobody waits.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        said = False
        while not locked(descriptor):
            if waiting is None:
                raise UserError(f"{folder} is being written by another process: wait for it, or stop it")
            if not said:
                print(f"{waiting}: waiting for it", flush=True)
                said = True
            time.sleep(EVERY)
        yield
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Whether the file could be locked, or its file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNLOCKABLE:
            raise
    return True


@contextmanager
def free_gpu(gpus: list[str], folder: Path | None = None) -> Iterator[int]:
    """The index of a GPU that no other job of this machine has, held until the end; waits for one.

    joblib re-uses its worker processes and assigns no GPU, and CUDA reads CUDA_VISIBLE_DEVICES once, so a job takes one by its index.

    Args:
        gpus: what tells each GPU apart on this machine, such as its UUID, in the order of their indices.
        folder: of the lock files; None is one for each user in the system's temporary folder.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"rpe-gpus-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for index, name in enumerate(gpus):
            descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if locked(descriptor):
                    yield index
                    return
            finally:
                os.close(descriptor)
        time.sleep(EVERY)
