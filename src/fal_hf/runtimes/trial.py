"""Which runtime of an exported folder is the fastest on this machine: a trial of some seconds, whose outcome is kept
in the user's cache."""

import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock
from huggingface_hub import constants

from ..model.configuration_fal import FALConfig
from .loading import Classifier, load_runtime, runs_anywhere
from .runtime_folder import RuntimeFolder, RuntimeRecord

# Of one runtime, at most; it runs once at least, beside a first time that prepares.
TRIAL_SECONDS = 2.0
PACKAGES = ("torch", "onnxruntime", "openvino")

logger = logging.getLogger(__name__)


def choose_runtime(folder: RuntimeFolder, device: str | torch.device = "cpu") -> RuntimeRecord:
    """
    The fastest runtime of a folder on this machine, for one clip of the configured size.

    A trial's outcome holds for the same export, processor, number of threads and versions; it is remembered under
    `HF_HOME`. Of processes that begin at once, one tries and the others wait for what it finds. Runtimes that do not
    run here are left out. How long they take is logged.

    Args:
        folder: The exported folder.
        device: Where it is to run.

    Raises:
        ImportError: none of them runs here; the message says why.
    """
    is_cpu = torch.device(device).type == "cpu"
    records = [record for record in folder.records if is_cpu or runs_anywhere(record)]
    if not records:
        names = ", ".join(record.name for record in folder.records)
        raise ImportError(f"{folder.path}: expected a runtime for {device}, got {names}; use device cpu")
    if len(records) == 1:
        logger.info(f"runtime {records[0].name}, the only one for {torch.device(device).type}")
        return records[0]
    key = describe_machine(folder, device)
    with _one_at_a_time():
        remembered = _read_cache().get(key)
        for record in records:
            if record.name == remembered:
                logger.info(f"runtime {record.name}, the fastest of an earlier trial")
                return record
        fastest = try_runtimes(folder, records, device)
        logger.info(f"runtime {fastest.name}, the fastest")
        _remember(key, fastest.name)
    return fastest


def try_runtimes(folder: RuntimeFolder, records: list[RuntimeRecord], device: str | torch.device) -> RuntimeRecord:
    """The record of the runtime that takes the least time; an ImportError says why none of them runs."""
    seconds, reasons = {}, []
    for record in records:
        try:
            seconds[record.name] = time_clip(load_runtime(folder, record, device))
        except (ImportError, OSError, ValueError, RuntimeError) as error:
            reasons.append(f"{record.name} does not run here: {' '.join(str(error).split())}")
            logger.info(reasons[-1])
        else:
            logger.info(f"{record.name}: {seconds[record.name]:.3f} s a clip")
    if not seconds:
        raise ImportError(f"{folder.path}: expected a runtime for this machine; {'; '.join(reasons)}")
    return folder.find(min(seconds, key=lambda name: seconds[name]))


@torch.inference_mode()
def time_clip(model: Classifier, *, limit_seconds: float = TRIAL_SECONDS) -> float:
    """Seconds that a model takes for a clip of its configured size: the least of as many runs as the limit allows."""
    clip = torch.zeros(1, *clip_size(model.config), device=model.device, dtype=model.dtype)
    _timed(model, clip)  # the first one prepares
    began, best = time.perf_counter(), float("inf")
    while best == float("inf") or time.perf_counter() - began < limit_seconds:
        best = min(best, _timed(model, clip))
    return best


def _timed(model: Classifier, clip: torch.Tensor) -> float:
    began = time.perf_counter()
    cast(torch.Tensor, model(clip).logits).cpu()  # which waits for a GPU
    return time.perf_counter() - began


def clip_size(config: FALConfig) -> tuple[int, int, int, int]:
    """(frames, channels, height, width) of a clip of the configured size."""
    frames, rows, columns = config.grid_size
    return frames, config.num_channels, rows * config.patch_size, columns * config.patch_size


def describe_machine(folder: RuntimeFolder, device: str | torch.device) -> str:
    """By what an earlier trial is known again: the export, the processor, its use and the versions."""
    about: dict[str, Any] = {
        "source": folder.source,
        "runtimes": [asdict(record) for record in folder.records],
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else str(device),
        "processor": _describe_processor(),
        "threads": torch.get_num_threads(),
        "versions": {name: _version_of(name) for name in PACKAGES},
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _describe_processor() -> list[str]:
    """The processor and the capabilities that torch finds in it."""
    names = []
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = sorted({line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))})
    return [platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability(), *names]


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cache_file() -> Path:
    """Where trials are remembered."""
    return Path(constants.HF_HOME) / "fal" / "runtimes.json"


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Has the processes of this machine try in turn, where the cache can be written."""
    path = cache_file().with_suffix(".lock")
    with ExitStack() as stack:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path))
        yield


def _read_cache() -> dict[str, str]:
    try:
        content = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(key: str, name: str) -> None:
    """Keeps an outcome where the cache can be written; elsewhere the next process tries again."""
    path = cache_file()
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({**_read_cache(), key: name}, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)


__all__ = ["choose_runtime", "clip_size", "time_clip"]
