"""How much power the machine takes, where it tells."""

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

# Counters of the energy that processors have taken, in millionths of a joule (Linux, RAPL); a machine's administrator
# says who may read them.
POWERCAP = Path("/sys/class/powercap")
GPU_QUERY = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--loop-ms=100")


def mean_watts(work: Callable[[], object], device: str, *, powercap: Path = POWERCAP) -> float | None:
    """The mean power while `work` is done, of the processors or of the GPU; None where the machine does not tell."""
    return gpu_watts(work) if device == "cuda" else processor_watts(work, powercap)


def processor_watts(work: Callable[[], object], powercap: Path) -> float | None:
    """Of all processors, by the energy they have counted."""
    before, began = read_counters(powercap), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - began, read_counters(powercap)
    if not before:
        return None
    # A counter begins again at its limit.
    return sum((value - before[name][0]) % (limit + 1) for name, (value, limit) in after.items()) / 1e6 / seconds


def read_counters(powercap: Path) -> dict[str, tuple[int, int]]:
    """Each processor's counter, and the largest number it counts to; nothing where they cannot be read."""
    try:
        return {
            folder.name: tuple(int((folder / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
            for folder in sorted(powercap.glob("*-rapl:?"))
        }
    except OSError:
        return {}


def gpu_watts(work: Callable[[], object]) -> float | None:
    """Of the first GPU, by what its driver says ten times a second."""
    try:
        query = subprocess.Popen([*GPU_QUERY, "--id=0"], stdout=subprocess.PIPE, text=True)
    except OSError:
        work()
        return None
    try:
        work()
    finally:
        query.terminate()
    said, _ = query.communicate()
    watts = [float(line) for line in said.splitlines() if line.replace(".", "", 1).strip().isdigit()]
    return statistics.mean(watts) if watts else None
