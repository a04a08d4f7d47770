"""Memory for clips: each is tens of megabytes, taken and freed in turn."""

import ctypes
import platform

# glibc's numbers for two parameters of its allocator, and what they are set to: the largest block that is kept when
# it is freed (32 MiB is as far as glibc goes), and how much is.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES, KEPT_BLOCK_BYTES = 2**29, 2**25


def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next clip: each page that goes back to the system is cleared again later."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


__all__ = ["keep_freed_memory"]
