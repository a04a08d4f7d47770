"""
A model to a folder of runtimes. Each is made in several ways, those that promise to be the fastest first, until one is
close enough to the float32 model; nothing is kept unchecked.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import cast

import numpy as np
import torch

from ..hub.model_card import LICENSES, write_model_card
from ..labeling.fingerprints import hash_weights
from ..labeling.labeler import VideoLabeler
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from ..model.video_source import VideoError
from ..runtimes.formats import Format, Precision
from ..runtimes.loading import load_runtime
from ..runtimes.runtime_folder import RUNTIMES_FILE, RuntimeFolder, RuntimeRecord, find_runtimes
from ..runtimes.trial import clip_size, time_clip
from .agreement import Agreement
from .candidates import Candidate, list_candidates
from .card import describe_origin, describe_usage
from .options import LEAST_EQUAL, MOST_DIFFERENCE, ExportOptions
from .writers import WRITERS, GraphWriter, TorchWriter

# Of the clips that calibrate and of those that check, each; further videos are left out.
MOST_CLIP_BYTES = 2**31
# Where no videos are given, which float32 may do without.
NUM_RANDOM_CLIPS = 4


class ExportError(ValueError):
    """A model that cannot be exported; the message says what was expected, what came and what to do."""


class NotCloseEnough(ExportError):
    """A runtime of which no way to make it is close enough to the float32 model."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """
    One way in which a runtime was made.

    Args:
        candidate: Which.
        agreement: How far it is from the float32 model.
        seconds: Of a clip.
    """

    candidate: Candidate
    agreement: Agreement
    seconds: float

    def __str__(self) -> str:
        verdict = "enough" if self.agreement.is_enough else "not enough"
        return f"{self.candidate}: {self.seconds:.3f} s a clip; {self.agreement}: {verdict}"


@dataclass(frozen=True, kw_only=True)
class Export:
    """
    What an export has come to.

    Args:
        folder: What was written.
        attempts: All that was tried.
        float_seconds: Seconds that the float32 model takes for a clip.
        unreadable: Videos that could not be read, and why.
    """

    folder: RuntimeFolder
    attempts: tuple[Attempt, ...]
    float_seconds: float
    unreadable: tuple[str, ...]


# One float32 array `(clips, crops, T, channels, height, width)` a batch of a video.
VideoClips = list[np.ndarray]


def export_model(
    source: str | PathLike,
    output: str | PathLike,
    options: ExportOptions,
    *,
    on_start: Callable[[Candidate], object] | None = None,
    on_attempt: Callable[[Attempt], object] | None = None,
    **kwargs,
) -> Export:
    """
    Exports a classifier.

    Args:
        source: Folder or Hub id of a classifier.
        output: The folder; it must not exist, be empty, or be an export of the same model, which gets more runtimes.
        options: What it becomes, and on which videos it is compared.
        on_start: Is called before each way to make a runtime is tried.
        on_attempt: Is called after it.
        kwargs: Passed on to `from_pretrained`: `revision`, `token`, ...

    Example:

    ```python
    >>> from fal_hf.export import ExportOptions, export_model

    >>> options = ExportOptions(formats=("onnx",), precisions=("int8",), calibrate=("clips/one.mp4", "clips/two.mp4"))
    >>> export_model("my-model", "my-model-onnx", options, on_attempt=print)
    ```

    Raises:
        NotCloseEnough: (an `ExportError`) a runtime is not close enough to the float32 model, in whatever way it is
            made; the others are written.
        ExportError: (a `ValueError`) the source is an export, the output is something else, or no video can be read.
        ImportError: a package is missing.
        OSError: the model cannot be read, or the folder not be written.
    """
    if options.license not in LICENSES:
        raise ExportError(f"license: expected an identifier of the Hub, mit for instance, got {options.license!r}")
    if find_runtimes(source, **kwargs) is not None:
        raise ExportError(f"{source}: expected a checkpoint, got an export; export the model that it was made from")
    output, on_start, on_attempt = Path(output), on_start or _ignore, on_attempt or _ignore
    labeler = VideoLabeler.from_pretrained(source, device="cpu", dtype="float32", batch_size=1, **kwargs)
    model = cast(FALVideoClassifierForVideoClassification, labeler.model)
    earlier = find_room(output, hash_weights(model.state_dict()))
    unreadable: list[str] = []
    calibration = read_clips(labeler, options.calibrate, unreadable)
    checked = read_clips(labeler, options.check, unreadable) or calibration or [draw_clips(model)]
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as workplace:
        maker = RuntimeMaker(labeler, Path(workplace), calibration=calibration, checked=checked)
        attempts = []
        for format, precision in options.runtimes:
            for attempt in maker.make(format, precision, force=options.force, on_start=on_start):
                attempts.append(attempt)
                on_attempt(attempt)
        folder = replace(earlier, records=join_records(earlier.records, maker.records))
        if maker.records:
            maker.describe(folder, source=fspath(source), license=options.license)
            move_files(maker.folder, folder)
    missing = [f"{format}-{precision}" for format, precision in options.runtimes if (format, precision) not in maker]
    if missing:
        raise NotCloseEnough(
            f"expected {LEAST_EQUAL:.0%} of the videos to have the labels of the float32 model, and probabilities at "
            f"most {MOST_DIFFERENCE} off, got no such {', '.join(missing)}; take another precision, or keep the "
            "nearest with --force"
        )
    return Export(
        folder=folder, attempts=tuple(attempts), float_seconds=maker.float_seconds, unreadable=tuple(unreadable)
    )


class RuntimeMaker:
    """
    Makes runtimes of a model, and compares each with it.

    Args:
        labeler: The float32 model, on the CPU, and its processor.
        folder: Where the runtimes are written.
        calibration: Videos that say how large the numbers in the model get.
        checked: Videos on which runtimes are compared.
    """

    def __init__(
        self, labeler: VideoLabeler, folder: Path, *, calibration: Sequence[VideoClips], checked: Sequence[VideoClips]
    ):
        self.model = cast(FALVideoClassifierForVideoClassification, labeler.model)
        self.processor = labeler.processor
        self.folder = RuntimeFolder(folder, "", ())
        self.records: tuple[RuntimeRecord, ...] = ()
        self.checked = checked
        self.clips = [clip for video in calibration for clip in single_clips(video)]
        self.expected = score_videos(labeler, checked)
        self.float_seconds = time_clip(self.model)
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        self._writers: dict[Format, TorchWriter | GraphWriter] = {}

    def __contains__(self, runtime: tuple[Format, Precision]) -> bool:
        return runtime in [(record.format, record.precision) for record in self.records]

    def make(
        self, format: Format, precision: Precision, *, force: bool, on_start: Callable[[Candidate], object]
    ) -> Iterator[Attempt]:
        """Tries one way after the other until one is enough; with `force` the nearest is kept where none is."""
        attempts = []
        for candidate in list_candidates(format, precision, num_layers=self.model.config.num_hidden_layers):
            on_start(candidate)
            record = self.write(candidate)
            attempts.append(self.compare(candidate, record))
            if attempts[-1].agreement.is_enough:
                self._keep(record, attempts[-1])
            yield attempts[-1]
            if attempts[-1].agreement.is_enough:
                return
            shutil.rmtree(self.folder.path / record.name)
        if force:
            nearest = min(attempts, key=lambda attempt: attempt.agreement.largest_difference)
            self._keep(self.write(nearest.candidate), nearest)

    def write(self, candidate: Candidate) -> RuntimeRecord:
        """Writes a runtime's files."""
        if candidate.format not in self._writers:
            self._writers[candidate.format] = WRITERS[candidate.format](self.model, self.clips)
        writer = self._writers[candidate.format]
        record = RuntimeRecord(
            format=candidate.format,
            precision=candidate.precision,
            fixed_size=writer.fixed_size,
            float_linears=writer.float_linears(candidate),
            settings=candidate.settings,
        )
        writer.write(candidate, self.folder.path / record.name)
        return record

    def compare(self, candidate: Candidate, record: RuntimeRecord) -> Attempt:
        """Runs a runtime that was written."""
        runner = VideoLabeler(load_runtime(self.folder, record), self.processor)
        scores = score_videos(runner, self.checked)
        agreement = Agreement.between(scores, self.expected, self.model.config.problem_type)
        return Attempt(candidate=candidate, agreement=agreement, seconds=time_clip(runner.model))

    def _keep(self, record: RuntimeRecord, attempt: Attempt) -> None:
        check = {**asdict(attempt.agreement), "seconds": round(attempt.seconds, 4)}
        self.records = join_records(self.records, [replace(record, check=check)])

    def describe(self, folder: RuntimeFolder, *, source: str, license: str) -> None:
        """Writes the list of runtimes and the card that the exported folder is to have."""
        replace(folder, path=self.folder.path).write()
        origin = describe_origin(source, folder.records, float_seconds=self.float_seconds)
        write_model_card(
            self.folder.path,
            license=license,
            repo_id=folder.path.resolve().name,
            usage=describe_usage(folder.path.resolve().name, folder.records),
            origin=origin,
        )


def _ignore(what: object) -> None:
    pass


def join_records(earlier: Sequence[RuntimeRecord], later: Sequence[RuntimeRecord]) -> tuple[RuntimeRecord, ...]:
    """Both, the later one of a name."""
    return tuple({record.name: record for record in (*earlier, *later)}.values())


def find_room(output: Path, source: str) -> RuntimeFolder:
    """The export that an output is already; an ExportError where it is something else. `source`: of its weights."""
    empty = RuntimeFolder(output, source, ())
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        output.parent.mkdir(parents=True, exist_ok=True)
        return empty
    if not (output / RUNTIMES_FILE).is_file():
        raise ExportError(f"{output}: expected a new folder, or an export to add to, got something else")
    earlier = RuntimeFolder.read(output)
    if earlier.source != source:
        raise ExportError(f"{output}: expected a new folder, or an export of the same model, got that of another one")
    return earlier


def move_files(made: RuntimeFolder, folder: RuntimeFolder) -> None:
    """Moves what was made to where it belongs: the runtimes first, and last the list, which names what is there."""
    folder.path.mkdir(exist_ok=True)
    for path in sorted(made.path.iterdir(), key=lambda path: path.name == RUNTIMES_FILE):
        target = folder.path / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)


def read_clips(labeler: VideoLabeler, videos: Sequence[str], unreadable: list[str]) -> list[VideoClips]:
    """
    The clips of videos, as many as memory is meant for.

    Args:
        labeler: Whose clips.
        videos: Paths or URLs.
        unreadable: Gets a line for each that cannot be read.

    Raises:
        ExportError: none of them can be read.
    """
    read, num_bytes = [], 0
    for video in videos:
        try:
            with labeler.reader.open(video) as file:
                batches = labeler.reader.read(file, labeler.reader.plan(file))
                clips = [batch[0] for batch in batches if isinstance(batch, list)]  # none reuses what was scored
        except VideoError as error:
            unreadable.append(str(error))
            continue
        num_bytes += sum(batch.nbytes for batch in clips)
        if read and num_bytes > MOST_CLIP_BYTES:
            unreadable.append(f"{video}: left out, as those before it are {MOST_CLIP_BYTES / 2**30:.0f} GiB of pixels")
            break
        read.append(clips)
    if videos and not read:
        raise ExportError(f"expected videos, none of {len(videos)} can be read; the first: {unreadable[0]}")
    return read


def draw_clips(model: FALVideoClassifierForVideoClassification) -> VideoClips:
    """Random clips of the configured size, the same ones each time."""
    size = (NUM_RANDOM_CLIPS, 1, *clip_size(model.config))
    return [np.random.default_rng(0).standard_normal(size, dtype=np.float32)]


def single_clips(video: VideoClips) -> list[torch.Tensor]:
    """The clips of a video, `(1, T, channels, height, width)` each."""
    return [clip[None] for batch in video for clip in torch.from_numpy(batch).flatten(0, 1)]


def score_videos(labeler: VideoLabeler, videos: Sequence[VideoClips]) -> torch.Tensor:
    """The probabilities of videos, `(videos, num_labels)` float32."""
    return torch.stack([torch.cat([labeler.score([batch]) for batch in video]).mean(dim=0) for video in videos])


__all__ = ["Attempt", "Export", "ExportError", "NotCloseEnough", "export_model"]
