"""The journal of a run: what is done stays done, whatever happens to the process or the file."""

import errno
import json
import os

import pytest

from fal_hf.bulk.inputs import VideoInput
from fal_hf.bulk.journal import Journal, JournalError, journal_path
from fal_hf.labeling.records import failed_record

MADE_BY = {"weights": "abc", "views": {"scales": (1.0,)}, "top_k": 5}
A, B, C = (VideoInput(f"{name}.mp4", f"/videos/{name}.mp4", (10, number)) for number, name in enumerate("abc"))


LABELED = {
    "labels": [{"label": "x", "score": 0.5}],
    "num_clips": 1,
    "duration_seconds": 2.0,
    "frame_rate": 25.0,
    "schema_version": 1,
}


def record_of(video, **values) -> dict:
    return {"video": video.name, **LABELED, **values}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "labels.csv.journal"


def fill(path, *videos, **options) -> None:
    journal = Journal(path, MADE_BY, **options)
    for video in videos:
        journal.append(video, record_of(video))
    journal.close()


def test_what_was_done_is_found_again_and_comes_in_the_order_asked_for(path):
    fill(path, C, A)
    journal = Journal(path, MADE_BY)
    assert A in journal and C in journal and B not in journal
    journal.append(B, record_of(B))
    assert list(journal.records([A, B, C])) == [record_of(A), record_of(B), record_of(C)]


def test_a_record_has_the_name_that_the_video_has_now(path):
    fill(path, A)
    renamed = VideoInput("other/../a.mp4", A.key, A.identity)
    assert [record["video"] for record in Journal(path, MADE_BY).records([renamed])] == ["other/../a.mp4"]


def test_a_changed_file_is_not_done_and_its_new_record_counts(path):
    fill(path, A)
    changed = VideoInput(A.name, A.key, (11, 5))
    journal = Journal(path, MADE_BY)
    assert changed not in journal
    journal.append(changed, record_of(A, num_clips=2))
    assert [record["num_clips"] for record in journal.records([changed])] == [2]


def test_failures_are_known(path):
    journal = Journal(path, MADE_BY)
    journal.append(A, failed_record(A.name, "a.mp4: is empty"))
    journal.append(B, record_of(B))
    assert journal.has_failed(A) and not journal.has_failed(B)


@pytest.mark.parametrize("torn", range(1, 120, 7))
def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(path, torn):
    fill(path, A, B)
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    journal = Journal(path, MADE_BY)
    assert A in journal and B not in journal
    journal.append(B, record_of(B))
    assert path.read_bytes() == whole


def test_a_torn_header_begins_anew(path):
    fill(path)
    path.write_bytes(path.read_bytes()[:-3])
    fill(path, A)
    assert A in Journal(path, MADE_BY)


def test_damage_in_the_middle_is_an_error_that_tells_what_to_do(path):
    fill(path, A, B)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\x00\x00\n" + lines[2])
    with pytest.raises(ValueError, match=r"damaged at byte [0-9]+; delete it to begin anew"):
        Journal(path, MADE_BY)


def test_another_model_or_option_is_refused_by_name_and_nothing_is_written(path):
    fill(path, A)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"top_k was 5, is 3.*Take the same ones to go on"):
        Journal(path, {**MADE_BY, "top_k": 3})
    with pytest.raises(ValueError, match='weights was "abc", is "def"'):
        Journal(path, {**MADE_BY, "weights": "def"})
    assert path.read_bytes() == before


def test_of_a_group_of_settings_those_that_differ_are_told_and_of_many_a_few(path):
    fill(path, A)
    told = r"\(views.scales was \[1.0\], is \[2.0\]; views.num_crops was null, is 3\)"
    with pytest.raises(JournalError, match=told):
        Journal(path, {**MADE_BY, "views": {"scales": [2.0], "num_crops": 3}})
    told = r"\(views.scales was \[1.0\], is null; (views.\d was null, is 1; ){7}\.\.\.\)"
    with pytest.raises(JournalError, match=told):
        Journal(path, {**MADE_BY, "views": {str(number): 1 for number in range(9)}})


def test_a_file_of_another_kind_is_refused(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"video": "a.mp4"}) + "\n")
    with pytest.raises(ValueError, match="expected the journal of a run of fal"):
        Journal(path, MADE_BY)


def test_two_runs_cannot_write_the_same_output(path):
    first = Journal(path, MADE_BY)
    with pytest.raises(OSError, match="another run is writing this output"):
        Journal(path, MADE_BY)
    first.close()
    Journal(path, MADE_BY)


def test_processes_that_share_an_output_have_a_journal_each_and_read_all(path):
    first, second = Journal(path, MADE_BY), Journal(path, MADE_BY, process=1)
    first.append(A, record_of(A))
    second.append(B, record_of(B))
    assert B not in first
    first.refresh()
    assert B in first
    assert [record["video"] for record in first.records([B, A])] == ["b.mp4", "a.mp4"]
    first.close()
    second.close()
    alone = Journal(path, MADE_BY)
    assert A in alone and B in alone


# Lines as every version of the format has them.
HEADER = '{"journal_version": 1, "made_by": {"weights": "abc", "views": {"scales": [1.0]}, "top_k": 5}}'
LINES = [
    '{"key": "/videos/a.mp4", "identity": [10, 0], "record": {"video": "a.mp4", "labels": [{"label": "x", '
    '"score": 0.5}], "num_clips": 1, "duration_seconds": 2.0, "frame_rate": 25.0, "schema_version": 1}}',
    '{"key": "s3://bucket/b.mp4", "identity": null, "record": {"video": "s3://bucket/b.mp4", "error": "is empty", '
    '"schema_version": 1}}',
]


def test_a_journal_written_by_hand_is_gone_on_with(path):
    path.parent.mkdir()
    path.write_text("\n".join([HEADER, *LINES, ""]))
    journal = Journal(path, MADE_BY)
    remote = VideoInput("s3://bucket/b.mp4", "s3://bucket/b.mp4", None)
    assert A in journal and remote in journal and B not in journal
    assert journal.has_failed(remote) and not journal.has_failed(A)
    assert [record["video"] for record in journal.records([remote, A])] == ["s3://bucket/b.mp4", "a.mp4"]


def test_a_journal_is_written_line_by_line_as_by_hand(path):
    journal = Journal(path, MADE_BY)
    for line in map(json.loads, LINES):
        identity = line["identity"] and tuple(line["identity"])
        journal.append(VideoInput(line["record"]["video"], line["key"], identity), line["record"])
    journal.close()
    assert path.read_text().splitlines() == [HEADER, *LINES]


@pytest.mark.parametrize(
    "line",
    [
        '{"key": "/videos/a.mp4"}',
        '{"key": 1, "identity": null, "record": {}}',
        "[]",
        LINES[0].replace('"x"', "null"),
        LINES[0].replace("25.0", '"25"'),
        LINES[1].replace("error", "reason"),
    ],
)
def test_a_line_that_is_no_entry_is_damage(path, line):
    path.parent.mkdir()
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(JournalError, match="damaged at byte"):
        Journal(path, MADE_BY)


def test_a_journal_is_beside_its_output(tmp_path):
    assert journal_path(tmp_path / "labels.csv") == tmp_path / "labels.csv.journal"


@pytest.mark.parametrize("content", ["shopping list", '{"journal_version": 1, "made_by": {"weights": "other'])
def test_a_line_without_an_end_that_is_no_torn_header_is_left_as_it_is(path, content):
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(JournalError, match="expected the journal of a run of fal, got another file"):
        Journal(path, MADE_BY)
    assert path.read_text() == content


def test_a_torn_header_is_written_again(path):
    fill(path, A)
    header = path.read_bytes().splitlines(keepends=True)[0]
    for length in (1, len(header) // 2, len(header) - 1):
        path.write_bytes(header[:length])
        Journal(path, MADE_BY).close()
        assert path.read_bytes() == header


def test_a_disk_that_is_full_is_told_with_the_journal_and_what_is_there_is_gone_on_with(path, monkeypatch):
    fill(path, A)
    journal, fsync = Journal(path, MADE_BY), os.fsync

    def refuse(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        journal.append(B, record_of(B))
    journal.close()
    monkeypatch.setattr(os, "fsync", fsync)
    assert A in Journal(path, MADE_BY)


def test_a_name_of_any_bytes_is_found_again(path):
    video = VideoInput("clip-\udcff.mp4", "/videos/clip-\udcff.mp4", (10, 3))
    fill(path, video)
    journal = Journal(path, MADE_BY)
    assert video in journal and list(journal.records([video])) == [record_of(video)]
