"""Rows of CSV and JSON Lines manifests."""

import pytest

from fal_hf.labeling.manifests import read_rows, stretch_of
from fal_hf.model.video_info import WHOLE, Stretch


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "path,label,group\na.mp4,x,\n\nb.mp4,,1\n"),
        ("list.CSV", "\ufeffpath,label,group\r\na.mp4,x,\r\n\r\nb.mp4,,1\r\n"),
        ("list.jsonl", '{"path": "a.mp4", "label": "x"}\n\n\n{"path": "b.mp4", "group": "1"}\n'),
        ("list.jsonl", '\ufeff{"path": "a.mp4", "label": "x"}\n\n\n{"path": "b.mp4", "group": "1"}'),
    ],
)
def test_rows_have_their_lines_and_what_they_hold(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert list(read_rows(tmp_path / name)) == [
        (2 if name.lower().endswith("csv") else 1, {"path": "a.mp4", "label": "x"}),
        (4, {"path": "b.mp4", "group": "1"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.txt", b"a.mp4", r"list\.txt: expected a manifest that ends in \.csv or \.jsonl"),
        ("list.csv", b'path,label\na.mp4,"x\n', r"list\.csv: expected a \.csv file in UTF-8: line 1"),
        ("list.csv", "path\ncafé\n".encode("latin-1"), r"list\.csv: expected a \.csv file in UTF-8"),
        ("list.jsonl", b'{"path": "a"}\n{"path":\n', r"list\.jsonl: line 2: Expecting value"),
        ("list.jsonl", b'["a.mp4"]\n', r"list\.jsonl: line 1: expected an object, got a list"),
    ],
)
def test_what_is_no_manifest_is_named_with_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_rows(tmp_path / name))


def test_bytes_that_are_no_text_are_kept_where_that_is_asked_for(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"path\nclip-\xff.mp4\n")
    assert list(read_rows(tmp_path / "list.csv", errors="surrogateescape")) == [(2, {"path": "clip-\udcff.mp4"})]


def test_a_row_may_name_a_stretch():
    assert stretch_of({}) == WHOLE
    assert stretch_of({"start_seconds": "1.5", "end_seconds": 3}) == Stretch(1.5, 3.0)
    for value in ("soon", [1], 10**400):
        with pytest.raises(ValueError, match="end_seconds: expected a number of seconds, got "):
            stretch_of({"end_seconds": value})
    with pytest.raises(ValueError, match=r"expected 0 <= start_seconds < end_seconds, got 3\.0 and 2\.0"):
        stretch_of({"start_seconds": 3, "end_seconds": 2})
