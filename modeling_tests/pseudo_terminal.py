"""A terminal for tests of what commands show on one (POSIX)."""

import os
import select
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr

try:
    import fcntl
    import termios
except ImportError:  # Windows, where the tests that need it are skipped
    pass


@contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """Makes standard error a terminal; yields what tells what was shown there since it was called last."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))  # rows and columns

    def read() -> str:
        shown = b""
        while select.select([ours], [], [], 0.1)[0]:  # the system hands over what was written a moment later
            shown += os.read(ours, 2**16)
        return shown.decode()

    with open(theirs, "w") as stream, redirect_stderr(stream):
        yield read
    os.close(ours)
