"""The allocator of the C library: pages that are freed stay with the process."""

import multiprocessing
import platform

import numpy as np
import pytest

from fal_hf.bulk.decoding import decoding_context
from fal_hf.labeling.memory import keep_freed_memory

resource = pytest.importorskip("resource", reason="needs POSIX")


def count_new_pages() -> int:
    """Pages that the system hands out for arrays of 24 MiB, when as many have been freed just before."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [np.ones(3 * 2**20) for _ in range(8)]
        new_pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        del arrays
    return new_pages


def compare_pages(connection) -> None:
    usual = [count_new_pages() for _ in range(2)]
    keep_freed_memory()
    connection.send((min(usual), count_new_pages()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept_for_the_next_clip():
    ours, theirs = multiprocessing.Pipe()
    process = decoding_context().Process(target=compare_pages, args=(theirs,))  # it is for good in a process
    process.start()
    usual, kept = ours.recv()
    process.join()
    assert kept < usual / 4
