"""What the card of an exported folder says beyond that of its model."""

from collections.abc import Sequence

import torch

from ..runtimes.runtime_folder import RuntimeRecord

PACKAGES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch"}


def describe_usage(repo_id: str, records: Sequence[RuntimeRecord]) -> str:
    """How to run the folder, in Markdown."""
    text = f"""\
With the package `fal-hf[export]`, which takes the fastest of the runtimes below on the machine at hand:

```bash
fal label video.mp4 --model {repo_id} -v
```

```python
from fal_hf import VideoLabeler

labeler = VideoLabeler.from_pretrained("{repo_id}")
print(labeler("video.mp4").labels)
```"""
    fixed = {record.fixed_size for record in records} - {None}
    if not fixed:
        return f"{text}\n\nClips may have any number of frames and any size that the patch size divides."
    frames, _, height, width = fixed.pop()  # pyright: ignore[reportGeneralTypeIssues]  # never None here
    names = ", ".join(f"`{record.name}`" for record in records if record.fixed_size is not None)
    return f"{text}\n\nClips have {frames} frames of {width} × {height} pixels with {names}, in any number."


def describe_origin(source: str, records: Sequence[RuntimeRecord], *, float_seconds: float) -> str:
    """What it was made of and how far each runtime is from that, in Markdown."""
    rows = [_describe(record) for record in records]
    table = ["| runtime | made | same labels | largest difference | s a clip |", "| --- | --- | --- | --- | --- |"]
    return (
        f"Exported by `fal export` from `{source}`, which in float32 took {float_seconds:.3f} s a clip on the machine "
        f"of the latest export ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads). Each "
        "runtime was compared with it, label by label, when it was made:\n\n" + "\n".join([*table, *rows])
    )


def _describe(record: RuntimeRecord) -> str:
    check = record.check
    made = "; ".join([PACKAGES[record.format], *(f"{name}: {value}" for name, value in record.settings.items())])
    cells = (
        f"{check['num_equal']} of {check['num_videos']} | {check['largest_difference']:.2g} | {check['seconds']:.3f}"
    )
    return f"| `{record.name}` | {made} | {cells} |"


__all__ = ["describe_origin", "describe_usage"]
