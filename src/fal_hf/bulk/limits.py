"""What one video may take. Nothing here needs torch, so that wrong usage is found before it is imported."""

from dataclasses import dataclass

# Numbers of bytes end here.
MOST_BYTES = 2**62


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """
    What one video may take, in a process of its own.

    Args:
        timeout_seconds: Longest wait for the next batch of a video; None: for ever.
        max_memory_bytes: Memory beyond what the process takes at rest; None: without limit. Only where the system
            can limit a process's memory (Linux).

    Raises:
        ValueError: a limit is not a number above 0.
    """

    timeout_seconds: float | None = 300.0
    max_memory_bytes: int | None = 4 * 2**30

    def __post_init__(self):
        for name, limit in vars(self).items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}: expected a number above 0, or None, got {limit}")


__all__ = ["MOST_BYTES", "DecodeLimits"]
