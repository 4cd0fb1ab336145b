"""Let one process at a time use a run folder, or a GPU.

The locks are the operating system's. They end with the process that holds them, however it ends.
"""

import errno
import getpass
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rpe.errors import UserError

POLL_SECONDS = 0.5
"""Seconds between two attempts."""

LOCKLESS_ERRORS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)
"""Errors of file systems without locks, such as some network ones. There a user must not start two commands
on one folder."""


@contextmanager
def hold_folder(folder: Path, waiting: str | None) -> Iterator[None]:
    """Hold an existing folder until the end. The folder itself is locked, so no lock file is left in it;
    on Windows `.lock` is.

    Args:
        folder: the folder, which exists.
        waiting: the message to print once while another process holds the folder; None raises instead of
            waiting.

    Raises:
        UserError: another process holds the folder, and `waiting` is None.
    """
    descriptor = open_folder(folder)
    try:
        told = False
        while not try_lock(descriptor):
            if waiting is None:
                raise UserError(
                    f"run folder must be free, got {folder}, which another process writes. "
                    "Wait for it, or stop it."
                )
            if not told:
                print(f"{waiting}: waiting for it", flush=True)
                told = True
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def open_folder(folder: Path) -> int:
    """Return a descriptor to lock: of the folder, or of a file in it on Windows, which opens no folders."""
    if os.name == "nt":
        return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    return os.open(folder, os.O_RDONLY)


def try_lock(descriptor: int) -> bool:
    """Return whether the file could be locked, or its file system has no locks."""
    from filelock import lock_descriptor  # imports asyncio; --help locks nothing

    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno not in LOCKLESS_ERRORS:
            raise
    return True


@contextmanager
def hold_gpu(gpus: list[str], folder: Path | None = None) -> Iterator[int]:
    """Hold a GPU that no other job of this machine holds, waiting until there is one; yield its index.

    joblib reuses its worker processes and assigns no GPU. CUDA reads CUDA_VISIBLE_DEVICES only once. So a job
    takes its GPU by index.

    Args:
        gpus: an identifier of each GPU of this machine, such as its UUID, in the order of their indices.
        folder: the folder of the lock files; None is a folder of this user in the system's temporary folder.
    """
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()  # Windows has no numbers of users
    folder = folder or Path(tempfile.gettempdir()) / f"rpe-gpus-{user}"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for index, name in enumerate(gpus):
            descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if try_lock(descriptor):
                    yield index
                    return
            finally:
                os.close(descriptor)
        time.sleep(POLL_SECONDS)
