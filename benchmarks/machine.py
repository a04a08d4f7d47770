"""What machine a measurement was made on, in one line."""

import os
import platform
from pathlib import Path

import torch

from fal_hf.model.video_source import available_cores


def describe_machine() -> str:
    """Processor, cores of this process, memory, threads, accelerator and versions."""
    cpu_info = Path("/proc/cpuinfo")
    names = [line for line in cpu_info.read_text().splitlines() if "model name" in line] if cpu_info.exists() else []
    processor = names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{processor}, {available_cores()} cores, {memory_gib:.0f} GiB, {accelerator}; "
        f"Python {platform.python_version()}, torch {torch.__version__} with {torch.get_num_threads()} threads"
    )
