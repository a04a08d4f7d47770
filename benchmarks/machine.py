"""What machine, and which versions of packages, a measurement was made with."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fal_hf.model.video_source import available_cores

# Instruction sets that decide how fast matrix products are, the later the better, by Linux' names for them.
INSTRUCTION_SETS = {
    "AVX2": "avx2",
    "AVX512F": "avx512f",
    "AVX512-VNNI": "avx512_vnni",
    "AVX512-BF16": "avx512_bf16",
    "AMX": "amx_tile",
}
PACKAGES = ("fal-hf", "torch", "transformers", "av", "onnxruntime", "openvino")


def describe_machine() -> dict:
    """Processor, its instruction sets, cores of this process, threads of torch, memory, GPU and how busy it is."""
    path = Path("/proc/cpuinfo")
    cpu_info = dict(re.findall(r"^([^\t:]+?)\s*: (.*)$", path.read_text(), re.M)) if path.exists() else {}
    flags = cpu_info.get("flags", "").split()
    return {
        "processor": cpu_info.get("model name", platform.processor() or platform.machine()),
        "instruction_sets": [name for name, flag in INSTRUCTION_SETS.items() if flag in flags],
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 2),  # of the last minute: what else ran here
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def machine_line(machine: dict) -> str:
    """A machine as a reader wants to know it."""
    best = f" with {machine['instruction_sets'][-1]}" if machine["instruction_sets"] else ""
    size = f"{machine['cores']} cores, {machine['memory_gib']} GiB"
    return f"{machine['processor']}{best}, {size}, {machine['gpu'] or 'no GPU'}, load {machine['load']:g}"


def machine_name(machine: dict) -> str:
    """A machine as part of a file's name: the same for machines whose figures are comparable."""
    parts = (
        machine["processor"],
        *machine["instruction_sets"][-1:],
        f"{machine['cores']}-cores",
        *filter(None, [machine["gpu"]]),
    )
    return "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)
