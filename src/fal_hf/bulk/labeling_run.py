"""A run over a collection: on which engine, in which order, and into a file that an interrupted run goes on with."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ..labeling.label_files import check_output, write_labels
from ..labeling.labeler import VideoLabeler
from ..labeling.records import SCHEMA_VERSION, Record
from ..model.video_source import available_cores
from .collection import label_collection
from .decoding import DecodeLimits
from .inputs import VideoInput
from .journal import Journal, journal_path
from .processes import Processes
from .ray_engine import label_on_ray

Engine = Literal["local", "ray"]
ENGINES = {"local": label_collection, "ray": label_on_ray}

# What a configuration says of its file and of the library that wrote it, and not of the model.
UNRELATED_KEYS = ("_name_or_path", "transformers_version")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: its videos, those that are done, and those of them that failed."""

    num_videos: int
    num_done: int = 0
    num_failed: int = 0

    @property
    def num_labeled(self) -> int:
        """Those that have labels."""
        return self.num_done - self.num_failed

    def after(self, record: Record) -> "Progress":
        """One video further."""
        return replace(self, num_done=self.num_done + 1, num_failed=self.num_failed + ("error" in record))


@dataclass(frozen=True, kw_only=True)
class LabelingResult:
    """
    What a run has come to.

    Args:
        num_labeled: Videos that have labels, those of earlier runs among them.
        num_failed: Videos that could not be labeled.
        files: What was written. Of several processes the first one writes; the others count their own videos.
    """

    num_labeled: int
    num_failed: int
    files: tuple[Path, ...] = ()


def label_to_file(
    labeler: VideoLabeler,
    videos: Sequence[VideoInput],
    output: str | os.PathLike,
    *,
    top_k: int = 5,
    engine: Engine = "local",
    num_workers: int | None = None,
    limits: DecodeLimits | None = None,
    retry_failed: bool = False,
    processes: Processes | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> LabelingResult:
    """
    Labels a collection into a file. What is done is noted beside it, in a journal: the same call goes on where an
    earlier one was stopped, at whatever moment, and the file is that of a run that never was.

    Args:
        labeler: Labels them.
        videos: What to label, from [`find_videos`].
        output: A file whose suffix names its format, see [`write_labels`].
        top_k: How many labels a video, and a window, has at most.
        engine: `"local"`: this machine; `"ray"`: the cluster that `RAY_ADDRESS` names, else one of this machine.
        num_workers: Processes that decode; 0: this one, without limits; None: one a core, with Ray one a CPU.
        limits: What one video may take in a worker.
        retry_failed: Whether videos that failed in an earlier run are labeled again.
        processes: Those that share the videos; None: those of `accelerate launch` or `torchrun`, if any.
        on_progress: Is called at the beginning and after each video of this process.

    Example:

    ```python
    >>> from fal_hf import VideoLabeler
    >>> from fal_hf.bulk.inputs import find_videos
    >>> from fal_hf.bulk.labeling_run import label_to_file

    >>> label_to_file(VideoLabeler.from_pretrained(), find_videos(["clips/"]), "labels.jsonl", on_progress=print)
    ```

    Raises:
        JournalError: (a `ValueError`) the output has the journal of another model or of other options.
        ValueError: the suffix of the output is unknown, or the engine is.
        OSError: the output cannot be written, or another run is writing it.
        ImportError: a package for the engine or for the format is missing.
    """
    label_videos = _engine_of(engine)
    check_output(output, num_videos=len(videos))
    processes = processes or Processes.launched()
    made_by = describe_run(labeler, top_k=top_k)
    with (
        processes.joined() as wait_for_all,
        closing(Journal(journal_path(output), made_by, process=processes.index)) as journal,
    ):
        own = processes.share(videos)
        left = [video for video in own if video not in journal or (retry_failed and journal.has_failed(video))]
        if num_workers is None and engine == "local":
            num_workers = choose_num_workers(len(left), num_processes=processes.count)
        records = label_videos(labeler, left, top_k=top_k, num_workers=num_workers, limits=limits)
        progress = _note_records(journal, own, left, records, on_progress or _ignore)
        wait_for_all()
        if processes.index > 0:
            return LabelingResult(num_labeled=progress.num_labeled, num_failed=progress.num_failed)
        journal.refresh()
        files = write_labels(output, journal.records(videos))
        num_failed = sum(map(journal.has_failed, videos))
        return LabelingResult(num_labeled=len(videos) - num_failed, num_failed=num_failed, files=tuple(files))


def label_in_order(
    labeler: VideoLabeler,
    videos: Sequence[VideoInput],
    *,
    top_k: int = 5,
    engine: Engine = "local",
    num_workers: int = 0,
    limits: DecodeLimits | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> Iterator[Record]:
    """
    Labels a collection and yields the records in the order of the videos, each as soon as those before it are done.

    Args:
        labeler, videos, top_k, engine, limits, on_progress: As for [`label_to_file`].
        num_workers: Processes that decode; 0: this one, without limits, with Ray one a CPU.
    """
    label_videos, on_progress = _engine_of(engine), on_progress or _ignore
    progress, done, waiting = Progress(num_videos=len(videos)), {}, deque(videos)
    on_progress(progress)
    for video, record in label_videos(labeler, videos, top_k=top_k, num_workers=num_workers, limits=limits):
        done[video.key] = record
        progress = progress.after(record)
        on_progress(progress)
        while waiting and waiting[0].key in done:
            yield done.pop(waiting.popleft().key)


def choose_num_workers(num_videos: int, *, num_processes: int = 1) -> int:
    """How many processes decode where nothing is said: one a core that is ours, and no more than there are videos."""
    return min(max(1, available_cores() // num_processes), num_videos)


def _engine_of(name: Engine) -> Callable[..., Iterator[tuple[VideoInput, Record]]]:
    if name not in ENGINES:
        raise ValueError(f"engine: expected {' or '.join(ENGINES)}, got {name}")
    return ENGINES[name]


def _note_records(
    journal: Journal,
    own: Sequence[VideoInput],
    left: Sequence[VideoInput],
    records: Iterator[tuple[VideoInput, Record]],
    on_progress: Callable[[Progress], object],
) -> Progress:
    """Notes the records of what is left of a process's own videos; returns how far it has come."""
    failed_before = sum(map(journal.has_failed, set(own).difference(left)))
    progress = Progress(num_videos=len(own), num_done=len(own) - len(left), num_failed=failed_before)
    on_progress(progress)
    for video, record in records:
        journal.append(video, record)
        progress = progress.after(record)
        on_progress(progress)
    return progress


def _ignore(progress: Progress) -> None:
    pass


def describe_run(labeler: VideoLabeler, *, top_k: int) -> dict[str, Any]:
    """
    What the records of a run depend on, as JSON values by name: the model with its weights, and the options.

    How fast they come (workers, batches, device) is left out.
    """
    config = labeler.model.config.to_dict()
    return {
        "weights": hash_weights(labeler.model),
        "config": {name: value for name, value in config.items() if name not in UNRELATED_KEYS},
        "processor": labeler.processor.to_dict(),
        "dtype": str(labeler.model.dtype).removeprefix("torch."),
        "views": asdict(labeler.views),
        "timeline": asdict(labeler.timeline),
        "hierarchy": labeler.hierarchy and labeler.hierarchy.parents,
        "top_k": top_k,
        "schema_version": SCHEMA_VERSION,
    }


def hash_weights(model: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


__all__ = ["LabelingResult", "Progress", "describe_run", "label_in_order", "label_to_file"]
