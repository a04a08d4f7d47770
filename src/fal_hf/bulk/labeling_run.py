"""
A run over a collection: on which engine, in which order, and into a file that an interrupted run goes on with.

What is unusual: a run begins without torch. A labeler may be given by what loads it, which is asked when a video needs
the model, so that an output or videos that are no use are told of at once.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..labeling.embedding_files import check_embeddings_output
from ..labeling.label_files import check_output, write_labels
from ..labeling.records import Record
from ..model.video_source import available_cores
from .inputs import VideoInput, records_of_missing
from .journal import Journal, journal_path
from .limits import DecodeLimits
from .processes import Processes

if TYPE_CHECKING:
    from ..labeling.labeler import VideoLabeler
    from .recorders import Recorder

Engine = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """
    How far a run is: its videos, those that are done, and those of them that failed; of the videos that this call has
    read, their windows and those that took over the scores of an earlier one.
    """

    num_videos: int
    num_done: int = 0
    num_failed: int = 0
    num_windows: int = 0
    num_reused_windows: int = 0

    @property
    def num_labeled(self) -> int:
        """Those that have labels."""
        return self.num_done - self.num_failed

    def after(self, record: Record) -> "Progress":
        """One video further."""
        return replace(
            self,
            num_done=self.num_done + 1,
            num_failed=self.num_failed + ("error" in record),
            num_windows=self.num_windows + len(record.get("windows", ())),
            num_reused_windows=self.num_reused_windows + record.get("num_reused_windows", 0),
        )


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
    labeler: "VideoLabeler | Callable[[], VideoLabeler]",
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
        labeler: Labels them; or what loads it, which is not asked where none of the videos is there.
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
        OutputError: (a `ValueError`) the labels of these videos cannot be written to the output.
        ValueError: there is no such engine.
        OSError: the output or its journal cannot be written, for want of space perhaps, or another run is writing it.
            The same call goes on where this one ended.
        ImportError: a package for the engine or for the format is missing.
    """
    check_engine(engine)
    check_output(output, num_videos=len(videos))
    processes = processes or Processes.launched()
    on_progress = on_progress or _ignore
    if not journal_path(output).exists() and (missing := records_of_missing(videos)) is not None:
        on_progress(Progress(num_videos=len(videos), num_done=len(videos), num_failed=len(videos)))
        files = write_labels(output, missing) if processes.index == 0 else ()
        return LabelingResult(num_labeled=0, num_failed=len(missing), files=tuple(files))
    from .recorders import LabelRecorder

    recorder = LabelRecorder(_loaded(labeler), top_k)
    how = {"engine": engine, "num_workers": num_workers, "limits": limits, "retry_failed": retry_failed}
    return _record_to_file(recorder, videos, output, **how, processes=processes, on_progress=on_progress)


def embed_to_file(
    labeler: "VideoLabeler | Callable[[], VideoLabeler]",
    videos: Sequence[VideoInput],
    output: str | os.PathLike,
    *,
    engine: Engine = "local",
    num_workers: int | None = None,
    limits: DecodeLimits | None = None,
    retry_failed: bool = False,
    processes: Processes | None = None,
    on_progress: Callable[[Progress], object] | None = None,
) -> LabelingResult:
    """
    Embeds a collection into a file, see `VideoLabeler.embed`; all else is as for [`label_to_file`].

    Args:
        labeler: Embeds them; or what loads it.
        videos: What to embed, from [`find_videos`].
        output: A file whose suffix names its format, see [`write_embeddings`].
        engine, num_workers, limits, retry_failed, processes, on_progress: As for [`label_to_file`].

    Returns:
        As of labels: `num_labeled` videos have embeddings.

    Raises:
        ValueError: the model is an exported runtime, which has scores alone; and as for [`label_to_file`].
        OSError, ImportError: As for [`label_to_file`].
    """
    check_engine(engine)
    check_embeddings_output(output)
    from .recorders import EmbeddingRecorder

    recorder = EmbeddingRecorder(_loaded(labeler))
    how = {"engine": engine, "num_workers": num_workers, "limits": limits, "retry_failed": retry_failed}
    processes, on_progress = processes or Processes.launched(), on_progress or _ignore
    return _record_to_file(recorder, videos, output, **how, processes=processes, on_progress=on_progress)


def _record_to_file(
    recorder: "Recorder",
    videos: Sequence[VideoInput],
    output: str | os.PathLike,
    *,
    engine: Engine,
    num_workers: int | None,
    limits: DecodeLimits | None,
    retry_failed: bool,
    processes: Processes,
    on_progress: Callable[[Progress], object],
) -> LabelingResult:
    """A whole run, whatever it makes of the videos."""
    options = {"process": processes.index, "is_record": recorder.is_record}
    with (
        processes.joined() as wait_for_all,
        closing(Journal(journal_path(output), recorder.describe(), **options)) as journal,
    ):
        own = processes.share(videos)
        left = [video for video in own if video not in journal or (retry_failed and journal.has_failed(video))]
        if num_workers is None and engine == "local":
            num_workers = choose_num_workers(len(left), num_processes=processes.count)
        records = ENGINES[engine](recorder, left, num_workers=num_workers, limits=limits)
        progress = _note_records(journal, own, left, records, on_progress)
        wait_for_all()
        if processes.index > 0:
            return LabelingResult(num_labeled=progress.num_labeled, num_failed=progress.num_failed)
        journal.refresh()
        num_failed = sum(map(journal.has_failed, videos))
        files = recorder.write(output, journal.records(videos))
        return LabelingResult(num_labeled=len(videos) - num_failed, num_failed=num_failed, files=tuple(files))


def label_in_order(
    labeler: "VideoLabeler | Callable[[], VideoLabeler]",
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
    check_engine(engine)
    missing, on_progress = records_of_missing(videos), on_progress or _ignore
    if missing is None:
        from .recorders import LabelRecorder

        recorder = LabelRecorder(_loaded(labeler), top_k)
        labeled = ENGINES[engine](recorder, videos, num_workers=num_workers, limits=limits)
    else:
        labeled = zip(videos, missing, strict=True)
    progress, done, waiting = Progress(num_videos=len(videos)), {}, deque(videos)
    on_progress(progress)
    for video, record in labeled:
        done[video.key] = record
        progress = progress.after(record)
        on_progress(progress)
        while waiting and waiting[0].key in done:
            yield done.pop(waiting.popleft().key)


def choose_num_workers(num_videos: int, *, num_processes: int = 1) -> int:
    """How many processes decode where nothing is said: one a core that is ours, and no more than there are videos."""
    return min(max(1, available_cores() // num_processes), num_videos)


def check_engine(engine: Engine) -> None:
    """Refuses an engine that there is not."""
    if engine not in ENGINES:
        raise ValueError(f"engine: expected {' or '.join(ENGINES)}, got {engine}")
    if engine == "ray" and find_spec("ray") is None:
        raise ImportError("engine ray: expected Ray to be installed, run `pip install fal-hf[ray]`")


def _loaded(labeler: "VideoLabeler | Callable[[], VideoLabeler]") -> "VideoLabeler":
    from ..labeling.labeler import VideoLabeler

    return labeler if isinstance(labeler, VideoLabeler) else labeler()


def _record_here(*arguments, **options) -> Iterator[tuple[VideoInput, Record]]:
    from .collection import record_collection

    return record_collection(*arguments, **options)


def _record_on_ray(*arguments, **options) -> Iterator[tuple[VideoInput, Record]]:
    from .ray_engine import record_on_ray

    return record_on_ray(*arguments, **options)


ENGINES = {"local": _record_here, "ray": _record_on_ray}


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


__all__ = ["LabelingResult", "Progress", "embed_to_file", "label_in_order", "label_to_file"]
