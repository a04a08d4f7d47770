"""
Damaged files for the `fal` command. Each must give labels, or an error of one line that says what is wrong: never a
traceback, a hang, or the end of a process.

    python modeling_tests/fuzz.py --count 1000 --seed 1
    python modeling_tests/fuzz.py videos --seed 1 --only 17

Videos are labeled by the command as users start it, with its workers, some hundred at a time. Manifests, hierarchies,
journals, configurations and weights are given to the command's entry in one process, which is replaced where it ends
or hangs. File I of a kind and a seed is always the same. Those that fail are kept in the output folder, and the exit
status is 1 then.
"""

import argparse
import csv
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from media_files import moving_frames, write_video
from tiny_fal import write_tiny_checkpoint
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from fal_hf.bulk.decoding import decoding_context
from fal_hf.bulk.inputs import find_videos
from fal_hf.bulk.journal import journal_path
from fal_hf.cli import main as fal

ROOT = Path(__file__).resolve().parents[1]
MEDIA = ROOT.parent / "shared" / "media"
# What a file may come to, from worst to best.
BAD = ("crashed", "hung", "traceback", "unclear")
OUTCOMES = (*BAD, "labeled", "refused")

# Videos that one command labels, seconds that a worker has for one, and that the command takes to start and end.
VIDEOS_AT_ONCE = 500
TIMEOUT_SECONDS = 60.0
STARTING_SECONDS = 60.0
# What one of the other files may take.
CASE_SECONDS = 60.0
CASE_BYTES = 4 * 2**30
REASONS_SHOWN = 20


@dataclass(frozen=True)
class Outcome:
    """What became of a file: its kind is one of OUTCOMES."""

    kind: str
    reason: str = ""


# ---- mutations of bytes ----


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """Without a stretch, which is often the end."""
    begin, end = sorted(rng.integers(0, len(data) + 1, 2))
    return data[:begin] + (b"" if rng.random() < 0.5 else data[end:])


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """With other bytes in up to 256 places."""
    changed = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, len(changed), some(rng, 256))
    changed[places] = rng.integers(0, 256, len(places))
    return changed.tobytes()


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    """With a block of random bytes, or of one byte over and over, between two bytes."""
    size, place = some(rng, 2**17), int(rng.integers(0, len(data) + 1))
    block = rng.bytes(size) if rng.random() < 0.5 else bytes([data[rng.integers(len(data))]]) * size
    return data[:place] + block + data[place:]


def copy(data: bytes, rng: np.random.Generator) -> bytes:
    """With a block of its own once more, between two bytes or in the place of others."""
    begin, end = sorted(rng.integers(0, len(data) + 1, 2))
    block, place = data[begin:end], int(rng.integers(0, len(data) + 1))
    return data[:place] + block + data[place + (len(block) if rng.random() < 0.5 else 0) :]


def change_header(data: bytes, rng: np.random.Generator) -> bytes:
    """With extreme numbers of 1 to 8 bytes in up to 8 places of its first or last 2 KiB."""
    changed = bytearray(data)
    begin = max(0, len(data) - 2048) if rng.random() < 0.3 else 0
    for place in begin + rng.integers(0, min(2048, len(data)), some(rng, 8)):
        size = int(rng.choice([1, 2, 4, 8]))
        largest, smallest = b"\x7f" + b"\xff" * (size - 1), b"\x80" + bytes(size - 1)  # of signed numbers
        changed[place : place + size] = [bytes(size), b"\xff" * size, largest, smallest][rng.integers(4)]
    return bytes(changed[: len(data)])


BYTE_MUTATIONS = (cut, flip, insert, copy, change_header)


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """With one to three of the mutations, one upon the other."""
    for index in rng.integers(0, len(BYTE_MUTATIONS), some(rng, 4)):
        data = BYTE_MUTATIONS[index](data, rng) or data
    return data


def some(rng: np.random.Generator, most: int) -> int:
    """A number from 1 to `most`, of any magnitude alike."""
    return int(most ** rng.random())


# ---- mutations of what a file says ----

ODD_NUMBERS = [-1, 0, 1, 0.5, 7, 1000, 10**6, 2**31, 2**63, 10**400, -1e308, float("nan"), float("inf")]
ODD_TEXTS = ["", " ", "0", "nan", "-1", "1e400", "a", "b", "\0", "\ud800", "ä\u2028", '"', "a,b", "x" * 200_000]
ODD_LISTS = [[], {}, [[]], [None], [1, 2], ["a"], {"": None}, {"a": "b"}, {"shortest_edge": 7}]
ODD_VALUES = [None, True, False, *ODD_NUMBERS, *ODD_TEXTS, *ODD_LISTS]


def mutate_json(text: str, rng: np.random.Generator) -> str:
    """A JSON text with one to three values in other places, of other kinds, or missing."""
    document = [json.loads(text)]
    for _ in range(rng.integers(1, 4)):
        places = list(_places(document))
        holder, key = places[rng.integers(len(places))]
        holder[key] = [_odd_value, _wrapped, _copied][rng.choice(3, p=[0.8, 0.1, 0.1])](holder[key], places, rng)
        if rng.random() < 0.2 and holder is not document:
            del holder[key]
    return json.dumps(document[0])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value within lists and objects."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _odd_value(value: Any, places: Sequence, rng: np.random.Generator) -> Any:
    return ODD_VALUES[rng.integers(len(ODD_VALUES))]


def _wrapped(value: Any, places: Sequence, rng: np.random.Generator) -> Any:
    return {"a": value} if rng.random() < 0.5 else [value]


def _copied(value: Any, places: Sequence, rng: np.random.Generator) -> Any:
    holder, key = places[rng.integers(len(places))]
    return json.loads(json.dumps(holder[key]))


def mutate_json_lines(text: str, rng: np.random.Generator) -> str:
    """JSON Lines of which one says something else."""
    lines = text.splitlines()
    number = rng.integers(len(lines))
    lines[number] = mutate_json(lines[number], rng)
    return "\n".join(lines) + "\n"


def mutate_csv(text: str, rng: np.random.Generator) -> str:
    """A table with one to three other cells."""
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(rng.integers(1, 4)):
        row = rows[rng.integers(len(rows))]
        row[rng.integers(len(row))] = str(_odd_value(None, (), rng))
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()


def mutate_safetensors(data: bytes, rng: np.random.Generator) -> bytes:
    """Weights whose header says something else."""
    size = int.from_bytes(data[:8], "little")
    header = mutate_json(data[8 : 8 + size].decode(), rng).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _of_text(mutate: Callable[[str, np.random.Generator], str]) -> Callable[[bytes, np.random.Generator], bytes]:
    return lambda data, rng: mutate(data.decode(), rng).encode("utf-8", "surrogatepass")


SAYING_MUTATIONS = {
    ".csv": _of_text(mutate_csv),
    ".jsonl": _of_text(mutate_json_lines),
    ".journal": _of_text(mutate_json_lines),
    ".json": _of_text(mutate_json),
    ".safetensors": mutate_safetensors,
}


def damaged_copy(source: Path, target: Path, rng: np.random.Generator) -> Path:
    """Writes a copy with other bytes or, as often where its kind is known, one that says something else."""
    data, mutate_saying = source.read_bytes(), SAYING_MUTATIONS.get(source.suffix)
    target.write_bytes(mutate_saying(data, rng) if mutate_saying and rng.random() < 0.5 else mutate_bytes(data, rng))
    return target


# ---- what a file comes to ----


def outcome_of_record(record: dict[str, Any]) -> Outcome:
    """Of a video, by its record in the output of the command."""
    reason = record.get("error", "").removeprefix(f"{record['video']}: ")
    if "error" not in record:
        return Outcome("labeled")
    if "took longer than" in reason:
        return Outcome("hung", reason)
    if "the process that decoded it ended" in reason:
        return Outcome("crashed", reason)
    return Outcome("unclear" if is_unclear(reason) else "refused", reason)


def outcome_of_command(status: int, output: str, errors: str) -> Outcome:
    """Of a file that a command `fal label --json ...` was given."""
    lines = errors.splitlines()
    if status == 2:
        is_clear = len(lines) == 1 and lines[0].startswith("fal: ") and not is_unclear(lines[0])
        return Outcome("refused" if is_clear else "unclear", "\n".join(lines))
    records = [outcome_of_record(json.loads(line)) for line in output.splitlines()]
    return min(records, key=lambda outcome: OUTCOMES.index(outcome.kind), default=Outcome("labeled"))


def is_unclear(reason: str) -> bool:
    """Whether a reason is an error of Python's that nobody has put into words."""
    named = r"(fal: )?(Attribute|Key|Index|Type|Name|Assertion|Recursion|ZeroDivision)Error\b"
    return re.match(named, reason) is not None


# What stands in a reason, and in its place where reasons are counted.
NAMES = (
    (r"\s+", " "),
    (r"(?<!\S)/[^:]*(?=: )|(?<!\S)/\S+", "FILE"),
    (r"[\[({].*[\])}]", "(...)"),
    (r"(?<!\w)(['\"`]).*?\1(?!\w)", "'...'"),
    (r"-?\b(0x[0-9a-f]+|\d[\d.]*(e[+-]?\d+)?)", "N"),
    (r"[^ -~]+", "?"),
)


def group(reason: str) -> str:
    """A reason without the names and numbers of its file, so that reasons of one kind are the same."""
    lines = reason.splitlines() or [""]
    text = lines[-1].removeprefix("fal: ")
    for pattern, name in NAMES:
        text = re.sub(pattern, name, text)
    return text if len(text) <= 100 else f"{text[:97]}..."


def keep_bad(outcome: Outcome, path: Path, target: Path) -> None:
    """Copies a file that has failed, and writes what it came to beside it."""
    if outcome.kind in BAD:
        shutil.copy(path, target)
        target.with_name(f"{target.name}.txt").write_text(f"{outcome.kind}\n{outcome.reason}\n")


# ---- videos, by the command with its workers ----


def make_video(seed: int, index: int, media: list[list[Path]], folder: Path) -> Path:
    """Writes a damaged video: of each folder of the media as often, so that no large one hides the others."""
    rng = generator("videos", seed, index)
    videos = media[rng.integers(len(media))]
    source = videos[rng.integers(len(videos))]
    return damaged_copy(source, folder / f"{index}{source.suffix}", rng)


def videos_by_folder(media: Path) -> list[list[Path]]:
    """The videos below a folder, those of each folder together."""
    paths = [Path(video.name) for video in find_videos([str(media)])]
    return [list(videos) for _, videos in groupby(paths, key=lambda path: path.parent)]


def fuzz_videos(seed: int, indices: Sequence[int], media: Path, kept: Path, bar: tqdm) -> Counter[Outcome]:
    """Labels damaged videos; those that fail are kept in a folder."""
    outcomes, peak, whole = Counter(), 0, videos_by_folder(media)
    for first in range(0, len(indices), VIDEOS_AT_ONCE):
        with tempfile.TemporaryDirectory() as name:
            folder, checkpoint = Path(name), write_tiny_checkpoint(Path(name, "checkpoint"))
            paths = [make_video(seed, index, whole, folder) for index in indices[first : first + VIDEOS_AT_ONCE]]
            found, peak_here = label_videos(folder, checkpoint, bar=bar)
            peak = max(peak, peak_here)
            for path in paths:
                outcome = found[str(path)]
                outcomes[outcome] += 1
                keep_bad(outcome, path, kept / f"{seed}-{path.name}")
    bar.write(f"peak memory of a worker: {peak / 2**20:.0f} MiB")
    return outcomes


def label_videos(
    folder: Path, checkpoint: Path, *, timeout_seconds: float = TIMEOUT_SECONDS, bar: tqdm
) -> tuple[dict[str, Outcome], int]:
    """Labels a folder by the command; returns what became of each video, and the peak memory of a worker in bytes."""
    output, errors = folder / "labels.jsonl", folder / "errors.txt"
    command = [sys.executable, "-m", "fal_hf.cli", "label", str(folder), "--model", str(checkpoint)]
    command += ["--output", str(output), "--timeout", str(timeout_seconds)]
    with errors.open("w") as file:
        # The tiny model gains nothing by threads, which would wait for those that decode.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    peak, done, since = 0, 0, time.monotonic()
    # Each worker may begin a video and a batch of it before the next one is done.
    while process.poll() is None and time.monotonic() - since < STARTING_SECONDS + 3 * timeout_seconds:
        time.sleep(0.2)
        peak = max(peak, peak_bytes_below(process.pid))
        now_done = count_done(journal_path(output))
        if now_done > done:
            bar.update(now_done - done)
            done, since = now_done, time.monotonic()
    is_hung = process.poll() is None
    process.kill()
    process.wait()
    said = errors.read_text(errors="replace").strip()
    if process.returncode not in (0, 1) or not output.exists() or "Traceback" in said:
        kind = "hung" if is_hung else "traceback" if "Traceback" in said else "crashed"
        outcome = Outcome(kind, f"the command: {said or process.returncode}")
        return {video.name: outcome for video in find_videos([str(folder)])}, peak
    records = map(json.loads, output.read_text(encoding="utf-8").splitlines())
    return {record["video"]: outcome_of_record(record) for record in records}, peak


def count_done(journal: Path) -> int:
    """The lines of a journal but for its first one, which names the run."""
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


def peak_bytes_below(pid: int) -> int:
    """The most memory that one of the processes below another has held so far; 0 where the system does not tell."""
    peaks = [0]
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(OSError):
                status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
                peaks += [int(kib) * 1024 for kib in re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)]
    return max(peaks)


# ---- other files, by the entry of the command ----

LABEL = ["label", "--device", "cpu", "--workers", "0"]


class Samples:
    """Whole files of each kind, of which the damaged ones are copies."""

    def __init__(self, folder: Path):
        self.videos = [write_video(folder / f"{name}.mp4", moving_frames(12 + 8 * i)) for i, name in enumerate("ab")]
        self.checkpoint = write_tiny_checkpoint(folder / "checkpoint")
        self.folder = folder
        rows = [{"video": "a.mp4", "start_seconds": 0.1, "end_seconds": 0.4, "group": "1"}, {"video": "b.mp4"}]
        rows += [{"path": "a.mp4", "label": "a"}, {"file_name": "nowhere.mp4", "split": "train"}]
        self.manifests = [folder / name for name in ("list.csv", "list.jsonl", "list.txt")]
        with self.manifests[0].open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list({name: None for row in rows for name in row}))
            writer.writeheader()
            writer.writerows(rows)
        self.manifests[1].write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        self.manifests[2].write_text("a.mp4\nb.mp4\n\nnowhere.mp4\n")
        self.hierarchy = folder / "hierarchy.json"
        self.hierarchy.write_text(json.dumps({"a": "vowel", "e": "vowel", "b": "consonant", "vowel": "letter"}))

        self.model = ["--model", str(self.checkpoint)]

    @cached_property
    def journal(self) -> Path:
        """Of a run over good videos and one that is missing."""
        output = self.folder / "labels.jsonl"
        with redirect_stderr(io.StringIO()):
            fal([*self.label_all, "--output", str(output)])
        return journal_path(output)

    @property
    def label_all(self) -> list[str]:
        """A command that labels all videos and one that is missing, with segments."""
        timeline = ["--timeline", "--window", "0.2", "--threshold", "0.02", "--hysteresis", "0"]
        return [*LABEL, *map(str, self.videos), "nowhere.mp4", *timeline, *self.model]


# A damaged file, and the arguments of a command that reads it.
Case = tuple[Path, list[str]]


def make_manifest(samples: Samples, folder: Path, rng: np.random.Generator) -> Case:
    source = samples.manifests[rng.integers(len(samples.manifests))]
    for video in samples.videos:
        (folder / video.name).symlink_to(video)
    path = damaged_copy(source, folder / source.name, rng)
    return path, [*LABEL, "--manifest", str(path), *samples.model, "--json"]


def make_hierarchy(samples: Samples, folder: Path, rng: np.random.Generator) -> Case:
    path = damaged_copy(samples.hierarchy, folder / samples.hierarchy.name, rng)
    return path, [*LABEL, str(samples.videos[0]), "--hierarchy", str(path), *samples.model, "--json"]


def make_journal(samples: Samples, folder: Path, rng: np.random.Generator) -> Case:
    output = folder / ["labels.jsonl", "labels.csv", "labels.json", "labels.parquet", "{name}.vtt"][rng.integers(5)]
    path = damaged_copy(samples.journal, journal_path(output), rng)
    return path, [*samples.label_all, "--output", str(output)]


def _make_checkpoint(*names: str) -> Callable[[Samples, Path, np.random.Generator], Case]:
    def make(samples: Samples, folder: Path, rng: np.random.Generator) -> Case:
        checkpoint = folder / "checkpoint"
        shutil.copytree(samples.checkpoint, checkpoint)
        name = names[rng.integers(len(names))]
        path = damaged_copy(samples.checkpoint / name, checkpoint / name, rng)
        return path, [*LABEL, str(samples.videos[0]), "--model", str(checkpoint), "--json"]

    return make


MAKERS: dict[str, Callable[[Samples, Path, np.random.Generator], Case]] = {
    "manifests": make_manifest,
    "hierarchies": make_hierarchy,
    "journals": make_journal,
    "configs": _make_checkpoint("config.json", "video_preprocessor_config.json", "preprocessor_config.json"),
    "weights": _make_checkpoint("model.safetensors"),
}


def fuzz_others(kind: str, seed: int, indices: Sequence[int], kept: Path, bar: tqdm) -> Counter[Outcome]:
    """Gives damaged files of a kind to the command; those that fail are kept in a folder."""
    outcomes = Counter()
    with tempfile.TemporaryDirectory() as whole, OneProcess(run_command) as process:
        samples = Samples(Path(whole))
        for index in indices:
            with tempfile.TemporaryDirectory() as name:
                path, arguments = MAKERS[kind](samples, Path(name), generator(kind, seed, index))
                outcome = process.run(arguments)
                keep_bad(outcome, path, kept / f"{seed}-{index}-{path.name}")
            outcomes[outcome] += 1
            bar.update()
    return outcomes


class OneProcess:
    """A process that does one call after the other, and its replacement where a call ends it or takes too long."""

    def __init__(self, call: Callable[[list[str]], Outcome], *, seconds: float = CASE_SECONDS):
        self.call = call
        self.seconds = seconds
        self._start()

    def _start(self) -> None:
        context = decoding_context()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.call), daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()  # it is ready

    def run(self, arguments: list[str]) -> Outcome:
        """What the call returns, or that it hung or crashed."""
        self.connection.send(arguments)
        try:
            if self.connection.poll(self.seconds):
                return self.connection.recv()
            outcome = Outcome("hung", f"took longer than {self.seconds:g} s")
        except (EOFError, OSError):
            self.process.join()
            outcome = Outcome("crashed", f"ended with exit code {self.process.exitcode}")
        self.stop()
        self._start()
        return outcome

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()

    def __enter__(self) -> "OneProcess":
        return self

    def __exit__(self, *exc_info) -> None:
        self.connection.close()  # which ends it
        self.process.join()


def _serve(connection, call: Callable[[list[str]], Outcome]) -> None:
    """Does the calls that come in; a file that wants all memory is not to have that of the machine."""
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (CASE_BYTES, CASE_BYTES))
    connection.send("ready")
    with suppress(EOFError):
        while True:
            connection.send(call(connection.recv()))


def run_command(arguments: list[str]) -> Outcome:
    """Runs the command in this process."""
    output, errors = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(errors):
            status = fal(arguments)
        return outcome_of_command(status, output.getvalue(), errors.getvalue())
    except SystemExit as stop:
        return outcome_of_command(stop.code, output.getvalue(), errors.getvalue())
    except BaseException:
        return Outcome("traceback", traceback.format_exc().strip())


# ---- the command of this file ----


def generator(kind: str, seed: int, index: int) -> np.random.Generator:
    """The random numbers of one file."""
    return np.random.default_rng([zlib.crc32(kind.encode()), seed, index])


def fuzz(kind: str, seed: int, indices: Sequence[int], *, media: Path, output: Path) -> Counter[Outcome]:
    """Gives damaged files of a kind to the command; returns how many came to what."""
    kept = output / kind
    kept.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(indices), desc=kind, unit="file", disable=None) as bar:
        if kind == "videos":
            return fuzz_videos(seed, indices, media, kept, bar)
        return fuzz_others(kind, seed, indices, kept, bar)


def format_table(kind: str, outcomes: Counter[Outcome]) -> str:
    """Numbers of files by what they came to, and the commonest reasons."""
    total = outcomes.total()
    reasons: dict[str, Counter[str]] = {outcome: Counter() for outcome in reversed(OUTCOMES)}
    for outcome, count in outcomes.items():
        reasons[outcome.kind][group(outcome.reason)] += count
    lines = [f"| {kind} | {total} |", "| --- | --- |"]
    for outcome, counts in reasons.items():
        lines.append(f"| **{outcome}** | {counts.total()} |")
        if outcome != "labeled":
            shown = counts.most_common(REASONS_SHOWN)
            lines += [f"| {reason} | {count} |" for reason, count in shown]
            if left := counts.total() - sum(count for _, count in shown):
                lines.append(f"| {len(counts) - len(shown)} other reasons | {left} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ("videos", *MAKERS)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(kinds)} (default: all)")
    parser.add_argument("--count", type=int, default=200, help="files of each kind (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the random damage (default: 0)")
    parser.add_argument("--only", type=int, metavar="I", help="file I alone, and what it comes to in full")
    parser.add_argument("--media", type=Path, default=MEDIA, help="folder of whole videos (default: ../shared/media)")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "fuzz", help="where failures are kept")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(kinds):
        parser.error(f"expected kinds among {', '.join(kinds)}, got {', '.join(unknown)}")
    os.environ["HF_HUB_OFFLINE"] = "1"
    disable_progress_bar()
    indices = range(options.count) if options.only is None else [options.only]
    num_bad = 0
    for kind in options.kinds or kinds:
        outcomes = fuzz(kind, options.seed, indices, media=options.media, output=options.output)
        print(format_table(kind, outcomes), end="\n\n", flush=True)
        bad = [outcome for outcome in outcomes if outcome.kind in BAD]
        num_bad += len(bad)
        for outcome in bad if options.only is not None else ():
            print(outcome.reason)
    return 1 if num_bad else 0


if __name__ == "__main__":
    sys.exit(main())
