"""The processes of a launcher that label one collection together."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from .inputs import VideoInput


@dataclass(frozen=True, kw_only=True)
class Processes:
    """
    The processes that share a collection, as seen from one of them.

    Args:
        index: Number of this process, from 0 on.
        count: How many there are.
        local_index: Number of this process on its machine.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0

    @classmethod
    def launched(cls) -> "Processes":
        """Those of `accelerate launch` or `torchrun`; otherwise this one alone."""
        names = {"index": "RANK", "count": "WORLD_SIZE", "local_index": "LOCAL_RANK"}
        return cls(**{field: int(os.environ[name]) for field, name in names.items() if name in os.environ})

    @property
    def device(self) -> str | None:
        """The GPU of this process where there are several; None leaves the choice."""
        import torch

        if self.count == 1 or not torch.cuda.is_available():
            return None
        return f"cuda:{self.local_index % torch.cuda.device_count()}"

    def share(self, videos: Sequence[VideoInput]) -> Sequence[VideoInput]:
        """The videos that this process labels."""
        return videos[self.index :: self.count]

    @contextmanager
    def joined(self) -> Iterator[Callable[[], object]]:
        """Yields what waits until all processes have called it; nothing else passes between them."""
        if self.count == 1:
            yield lambda: None
            return
        from torch import distributed

        # The first to be done waits for the last one, however long that takes.
        options = {"backend": "gloo", "timeout": timedelta(days=365)}
        is_ours = not distributed.is_initialized()
        if is_ours:
            distributed.init_process_group(**options)
        group = distributed.group.WORLD if is_ours else distributed.new_group(**options)
        try:
            yield partial(distributed.barrier, group)  # pyright: ignore[reportCallIssue]  # no process is outside this group
        finally:
            distributed.destroy_process_group(group)


__all__ = ["Processes"]
