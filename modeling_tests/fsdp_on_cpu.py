"""Runs a script, with its arguments, whose processes on the CPU may use FSDP.

Accelerate spreads weights over processes on accelerators only, and trains those on the CPU by DDP. Here they pass for
accelerators; all else, the sharding and what the processes tell one another, is as on GPUs.
"""

import runpy
import sys
from pathlib import Path

from accelerate.state import PartialState
from accelerate.utils import DistributedType

initialise = PartialState.__init__


def initialise_as_accelerators(state: PartialState, *args, **kwargs) -> None:
    initialise(state, *args, **kwargs)
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = initialise_as_accelerators
    del sys.argv[0]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
