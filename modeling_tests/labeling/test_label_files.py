"""Label files, each read back by a library that knows its format."""

import csv
import errno
import json
from xml.sax.saxutils import quoteattr

import av
import pandas
import pytest
from pyarrow import parquet

from fal_hf.labeling import label_files
from fal_hf.labeling.label_files import FORMATS, TABLE_COLUMNS, OutputError, check_output, write_labels

SHORT = {
    "video": "clips/a cat, <not> a dog.mp4",
    "labels": [{"label": "pan_right", "score": 0.75}, {"label": "static", "score": 0.25}],
    "num_clips": 6,
    "duration_seconds": 3.0,
    "frame_rate": None,
    "schema_version": 1,
}
LONG = {
    "video": "film.mkv",
    "labels": [{"label": "static", "score": 0.5}],
    "num_clips": 4,
    "duration_seconds": 3725.5,
    "frame_rate": 30.0,
    "parents": [{"label": "camera", "score": 0.875}],
    "windows": [{"start_seconds": 0.0, "end_seconds": 1.0, "labels": [{"label": "static", "score": 0.5}]}],
    "segments": [
        {"label": "static", "start_seconds": 0.0, "end_seconds": 2.5, "score": 0.75, "peak": 0.875},
        {"label": "zoom --> <b>in</b> & out", "start_seconds": 2.0, "end_seconds": 3725.5, "score": 0.5, "peak": 0.5},
    ],
    "schema_version": 1,
}
FAILED = {"video": "broken.mp4", "error": "broken.mp4: is empty", "schema_version": 1}
RECORDS = [SHORT, LONG, FAILED]


def test_json_lines_hold_the_records_as_they_are(tmp_path):
    (path,) = write_labels(tmp_path / "labels.jsonl", RECORDS)
    assert [json.loads(line) for line in path.read_text().splitlines()] == RECORDS


EXPECTED_ROWS = [
    (SHORT["video"], "label", "pan_right", 0.75, None, 0.0, 3.0, None),
    (SHORT["video"], "label", "static", 0.25, None, 0.0, 3.0, None),
    ("film.mkv", "label", "static", 0.5, None, 0.0, 3725.5, None),
    ("film.mkv", "parent", "camera", 0.875, None, 0.0, 3725.5, None),
    ("film.mkv", "segment", "static", 0.75, 0.875, 0.0, 2.5, None),
    ("film.mkv", "segment", "zoom --> <b>in</b> & out", 0.5, 0.5, 2.0, 3725.5, None),
    ("broken.mp4", "error", None, None, None, None, None, "broken.mp4: is empty"),
]


def test_csv_has_a_row_for_each_label_segment_and_failure(tmp_path):
    (path,) = write_labels(tmp_path / "labels.csv", RECORDS)
    table = pandas.read_csv(path)
    assert tuple(table.columns) == TABLE_COLUMNS
    rows = table.astype(object).where(table.notna(), None).itertuples(index=False, name=None)
    assert list(rows) == EXPECTED_ROWS


def test_parquet_holds_the_same_table_with_its_types(tmp_path, monkeypatch):
    monkeypatch.setattr(label_files, "ROWS_AT_ONCE", 2)
    (path,) = write_labels(tmp_path / "labels.parquet", RECORDS)
    table = parquet.read_table(path)
    assert [str(kind) for kind in table.schema.types] == ["string"] * 3 + ["double"] * 4 + ["string"]
    assert [tuple(row.values()) for row in table.to_pylist()] == EXPECTED_ROWS
    assert parquet.ParquetFile(path).num_row_groups == 4


def read_webvtt(path) -> list[tuple[float, float, str]]:
    """The cues as FFmpeg reads them: start, end, text with its escapes resolved."""
    with av.open(str(path), format="webvtt") as container:
        stream = container.streams.subtitles[0]
        return [
            (
                float(packet.pts * stream.time_base),
                float((packet.pts + packet.duration) * stream.time_base),
                bytes(packet).decode(),
            )
            for packet in container.demux(stream)
            if packet.size
        ]


def test_webvtt_has_a_cue_for_each_segment(tmp_path):
    (path,) = write_labels(tmp_path / "labels.vtt", [LONG])
    assert read_webvtt(path) == [
        (0.0, 2.5, "static 75%"),
        (2.0, 3725.5, "zoom --&gt; &lt;b&gt;in&lt;/b&gt; &amp; out 50%"),
    ]
    lines = path.read_text().splitlines()
    assert lines[0] == "WEBVTT" and lines[2] == "00:00:00.000 --> 00:00:02.500"
    assert "00:00:02.000 --> 01:02:05.500" in lines


def test_webvtt_without_a_timeline_shows_the_best_label_all_the_time(tmp_path):
    (path,) = write_labels(tmp_path / "labels.vtt", [SHORT])
    assert read_webvtt(path) == [(0.0, 3.0, "pan_right 75%")]


def test_webvtt_is_one_file_a_video(tmp_path):
    again = {**LONG, "video": "other/film.mp4"}
    paths = write_labels(tmp_path / "out" / "{name}.vtt", [*RECORDS, again])
    assert [path.name for path in paths] == ["a cat, <not> a dog.vtt", "film.vtt", "broken.vtt", "film-2.vtt"]
    assert "NOTE failed: broken.mp4: is empty" in paths[2].read_text() and read_webvtt(paths[2]) == []
    with pytest.raises(ValueError, match=r"expected \{name\} in the path"):
        write_labels(tmp_path / "labels.vtt", RECORDS)


def test_label_studio_tasks_have_what_its_documentation_asks_for(tmp_path):
    (path,) = write_labels(tmp_path / "tasks.json", RECORDS)
    tasks = json.loads(path.read_text())
    assert [task["data"]["video"] for task in tasks] == [record["video"] for record in RECORDS]
    for task in tasks:
        assert set(task) == {"data", "predictions"}
        for prediction in task["predictions"]:
            assert set(prediction) == {"model_version", "score", "result"} and 0 <= prediction["score"] <= 1
            assert len({region["id"] for region in prediction["result"]}) == len(prediction["result"])
            for region in prediction["result"]:
                assert region["type"] == "timelinelabels" and region["type"] in region["value"]
                assert (region["from_name"], region["to_name"]) == ("videoLabels", "video")
                assert all(isinstance(name, str) for name in region["value"]["timelinelabels"])
                for span in region["value"]["ranges"]:
                    assert isinstance(span["start"], int) and 1 <= span["start"] <= span["end"]
    (prediction,) = tasks[1]["predictions"]
    assert [region["value"]["ranges"] for region in prediction["result"]] == [
        [{"start": 1, "end": 75}],
        [{"start": 61, "end": 111765}],
    ]
    assert tasks[0]["predictions"][0]["result"][0]["value"] == {
        "ranges": [{"start": 1, "end": 75}],
        "timelinelabels": ["pan_right"],
    }
    assert tasks[2] == {"data": {"video": "broken.mp4", "error": FAILED["error"]}, "predictions": []}


def test_label_studios_own_checks_take_the_tasks(tmp_path):
    # Not among the development packages: it asks for older versions of some of them.
    label_interface = pytest.importorskip("label_studio_sdk.label_interface", reason="needs label-studio-sdk")
    (path,) = write_labels(tmp_path / "tasks.json", RECORDS)
    tasks = json.loads(path.read_text())
    names = {name for task in tasks for name in segment_labels(task)}
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in names)
    project = label_interface.LabelInterface(
        '<View><Video name="video" value="$video"/>'
        f'<TimelineLabels name="videoLabels" toName="video">{labels}</TimelineLabels></View>'
    )
    for task in tasks:
        assert project.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert project.validate_prediction(prediction, return_errors=True) == []
    tasks[0]["predictions"][0]["result"][0]["value"]["ranges"][0] = {"start": "first"}
    assert project.validate_prediction(tasks[0]["predictions"][0], return_errors=True)


def segment_labels(task: dict) -> list[str]:
    """The labels that a task's predictions use."""
    regions = [region for prediction in task["predictions"] for region in prediction["result"]]
    return [name for region in regions for name in region["value"]["timelinelabels"]]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_is_written_whole_or_not_at_all(tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    write_labels(path, [LONG])
    before = path.read_bytes()

    def breaks_off():
        yield SHORT
        raise OSError("disk full")

    target = tmp_path / f"other{suffix}" if suffix == ".vtt" else path
    with pytest.raises(OSError, match="disk full"):
        write_labels(target, breaks_off())
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} <= {path.name, target.name}


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_videos_make_an_empty_file_of_the_format(tmp_path, suffix):
    for path in write_labels(tmp_path / f"labels{suffix}", []):
        assert path.exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_name_that_is_no_utf8_can_be_written(tmp_path, suffix):
    record = {**SHORT, "video": "undecodable \udcff.mp4", "labels": [{"label": "folder \udcff", "score": 1.0}]}
    (path,) = write_labels(tmp_path / f"labels{suffix}", [record])
    assert path.stat().st_size > 0
    if suffix == ".csv":
        assert next(csv.DictReader(path.open(encoding="utf-8")))["video"] == "undecodable \\udcff.mp4"
    if suffix == ".parquet":
        (row,) = parquet.read_table(path).to_pylist()
        assert (row["video"], row["label"]) == ("undecodable \\udcff.mp4", "folder \\udcff")
    if suffix == ".jsonl":
        assert json.loads(path.read_text()) == record


def test_an_unknown_suffix_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"expected a suffix among \.jsonl, \.csv, .*, got \.xlsx"):
        write_labels(tmp_path / "labels.xlsx", RECORDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder.csv", "expected a file, got a folder"),
        ("new.csv/", "expected a file, got a folder"),
        ("{name}.csv", r"expected \{name\} in \.vtt files alone"),
        ("file/labels.csv", "expected a folder, .*file is a file"),
        ("file/deeper/{name}.vtt", "expected a folder, .*file is a file"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_it_is(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        check_output(path, num_videos=1)
    check_output("new/folder/{name}.vtt", num_videos=2)
    assert {each.name for each in tmp_path.iterdir()} == {"folder.csv", "file"}


def test_an_output_in_a_folder_that_takes_no_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(label_files.os, "access", lambda path, mode: False)  # a superuser may write anywhere
    with pytest.raises(OutputError, match="expected a folder that can be written to"):
        check_output(tmp_path / "labels.csv", num_videos=1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_disk_that_is_full_is_told_with_the_name_of_the_file(tmp_path, monkeypatch, suffix):
    def refuse(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(label_files.os, "fsync", refuse)
    path = tmp_path / f"labels{suffix}"
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_labels(path, [SHORT])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("videos", "names"),
    [
        (["a/x.mp4", "b/x.mp4", "b/x-2.mp4"], ["x", "x-2", "x-2-2"]),
        (["x-2.mp4", "a/x.mp4", "b/x.mp4", "c/x.mp4"], ["x-2", "x", "x-3", "x-4"]),
    ],
)
def test_a_numbered_name_never_meets_anothers_own(tmp_path, videos, names):
    paths = write_labels(tmp_path / "{name}.vtt", [{**SHORT, "video": video} for video in videos])
    assert [path.stem for path in paths] == names


def test_labels_of_a_stretch_stand_at_its_place_in_the_video():
    labels = [{"label": "a", "score": 0.75}]
    record = {"video": "v.mp4", "labels": labels, "num_clips": 1, "duration_seconds": 2.0, "frame_rate": 10.0}
    stretch = {**record, "start_seconds": 3.0, "end_seconds": 5.0}
    for where, times in ((record, (0.0, 2.0)), (stretch, (3.0, 5.0))):
        (row,) = label_files.table_rows(where)
        (cue,) = label_files.timed_labels(where)
        assert (row["start_seconds"], row["end_seconds"]) == times == (cue["start_seconds"], cue["end_seconds"])
    failed = {"video": "v.mp4", "error": "v.mp4: damaged", "start_seconds": 3.0, "end_seconds": None}
    (row,) = label_files.table_rows(failed)
    assert (row["kind"], row["start_seconds"], row["end_seconds"]) == ("error", 3.0, None)
