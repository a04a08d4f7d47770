"""Which videos a command line, a folder, a pattern, a manifest or standard input names."""

import io
import os

import fsspec
import pytest

from fal_hf import VideoError
from fal_hf.bulk.inputs import find_videos, opened_input, reason_of
from fal_hf.model.video_info import WHOLE, Stretch


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """b.mp4, notes.txt, sub/a.MKV, sub/deep/c.webm; the current directory is there."""
    for name in ("b.mp4", "notes.txt", "sub/a.MKV", "sub/deep/c.webm"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_of(*inputs, **options) -> list[str]:
    return [video.name for video in find_videos(inputs, **options)]


def test_files_are_taken_as_they_are_named_even_if_they_are_missing(folder):
    assert names_of("notes.txt", "missing.mp4", "b.mp4") == ["notes.txt", "missing.mp4", "b.mp4"]


def test_a_folder_gives_the_videos_at_any_depth_in_the_order_of_their_names(folder):
    assert names_of(".") == ["./b.mp4", "./sub/a.MKV", "./sub/deep/c.webm"]


def test_patterns_are_expanded_in_order_unless_a_file_has_that_name(folder):
    assert names_of("*") == ["b.mp4", "notes.txt"]
    assert names_of("**/*.webm") == ["sub/deep/c.webm"]
    (folder / "odd[1].mp4").write_bytes(b"1")
    assert names_of("odd[1].mp4") == ["odd[1].mp4"]


@pytest.mark.parametrize("nothing", ["sub/deep/*.mp4", "empty"])
def test_a_pattern_or_folder_without_videos_is_an_error(folder, nothing):
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="expected a video at least, found none"):
        find_videos([nothing])


def test_a_video_that_is_named_twice_is_there_once_under_its_first_name(folder):
    (folder / "link.mp4").symlink_to("b.mp4")
    assert names_of("./b.mp4", "b.mp4", str(folder / "b.mp4"), "link.mp4", "sub") == [
        "./b.mp4",
        "sub/a.MKV",
        "sub/deep/c.webm",
    ]
    assert names_of("https://x.org/a.mp4", "https://x.org/a.mp4") == ["https://x.org/a.mp4"]


def test_a_changed_file_has_another_identity(folder):
    (before,) = find_videos(["b.mp4"])
    os.utime("b.mp4", ns=(1, 1))
    (after,) = find_videos(["b.mp4"])
    assert before.key == after.key and before.identity != after.identity == (5, 1)
    assert find_videos(["https://x.org/a.mp4"])[0].identity is None


def test_standard_input_names_a_video_a_line(folder, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"b.mp4\n\nsub\r\nclip-\xff.mp4"), encoding="ascii")
    monkeypatch.setattr("sys.stdin", stdin)
    assert names_of("-") == ["b.mp4", "sub/a.MKV", "sub/deep/c.webm", os.fsdecode(b"clip-\xff.mp4")]
    with pytest.raises(ValueError, match="standard input: expected a video at least"):
        find_videos(["-"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.MKV\ndeep/c.webm\nhttps://x.org/a.mp4\n"),
        ("list.csv", 'label,path\ncat,a.MKV\ndog,"deep/c.webm"\n,https://x.org/a.mp4\n'),
        ("list.jsonl", '{"video": "a.MKV"}\n{"video": "deep/c.webm", "label": 1}\n{"url": "https://x.org/a.mp4"}\n'),
    ],
)
def test_a_manifest_names_videos_from_its_own_folder_on(folder, name, text):
    (folder / "sub" / name).write_text(text)
    expected = ["sub/a.MKV", "sub/deep/c.webm", "https://x.org/a.mp4"]
    assert names_of(manifest=f"sub/{name}") == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "clip\na.mp4\n", r"list\.csv: line 2: expected one of video, path, file_name, url"),
        ("list.jsonl", '{"video": "a.mp4"}\n["b"]\n', r"list\.jsonl: line 2: expected an object"),
        ("list.jsonl", "{", r"list\.jsonl: line 1: Expecting property name"),
        (
            "list.jsonl",
            '{"video": "a\\u0000.mp4"}\n',
            r"list\.jsonl: line 1: expected the name of a video, got one with",
        ),
        ("list.txt", "a.mp4\nb\0.mp4\n", r"list\.txt: line 2: expected the name of a video, got one with a zero byte"),
        ("list.txt", "\n", r"list\.txt: expected a video at least"),
    ],
)
def test_a_manifest_that_names_no_videos_is_an_error(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        find_videos([], manifest=name)


def test_fsspec_urls_are_opened_and_their_patterns_and_folders_expanded():
    files = fsspec.filesystem("memory")
    for name in ("/bucket/b.mp4", "/bucket/deep/a.mkv", "/bucket/notes.txt"):
        files.pipe(name, name.encode())
    assert names_of("memory://bucket/") == ["memory:///bucket/b.mp4", "memory:///bucket/deep/a.mkv"]
    assert names_of("memory://bucket/*") == ["memory:///bucket/b.mp4", "memory:///bucket/notes.txt"]
    with opened_input("memory://bucket/b.mp4") as file:
        assert file.read() == b"/bucket/b.mp4"
    with opened_input("/a/path.mp4") as path, opened_input("http://x.org/a.mp4") as url:
        assert (path, url) == ("/a/path.mp4", "http://x.org/a.mp4")


@pytest.mark.parametrize("url", ["nothing://x/a.mp4", "rtsp://camera/1", "nothing://x/*.mp4"])
def test_a_url_that_nobody_can_open_is_refused(url):
    with pytest.raises(ValueError, match=r"expected http, https or a scheme that fsspec knows, got (nothing|rtsp)"):
        find_videos([url])


def test_a_reason_names_the_video_and_an_unexpected_type():
    assert reason_of(VideoError("BytesIO object", "is empty"), "s3://a/b.mp4") == "s3://a/b.mp4: is empty"
    assert reason_of(RuntimeError("out of\nmemory"), "b.mp4") == "b.mp4: RuntimeError: out of memory"


# ---- stretches ----


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_manifest_names_stretches_of_videos(folder, name):
    rows = {
        "list.csv": "\ufeffvideo,start_seconds,end_seconds\n"
        "sub/a.MKV,1.5,3\nsub/a.MKV,4,\nsub/a.MKV,,\nsub/a.MKV,4.0,\n",
        "list.jsonl": '{"video": "sub/a.MKV", "start_seconds": 1.5, "end_seconds": 3}\n'
        '{"video": "sub/a.MKV", "start_seconds": 4}\n{"video": "sub/a.MKV"}\n',
    }
    (folder / name).write_text(rows[name], encoding="utf-8")
    videos = find_videos([], manifest=name)
    assert [video.stretch for video in videos] == [Stretch(1.5, 3.0), Stretch(4.0), WHOLE]
    source = os.path.realpath("sub/a.MKV")
    assert [video.key for video in videos] == [f"{source}#t=1.5,3.0", f"{source}#t=4.0", source]
    assert {video.source for video in videos} == {source}


@pytest.mark.parametrize(("start", "end"), [("-1", ""), ("3", "2"), ("2", "2"), ("soon", ""), ("", "nan")])
def test_a_stretch_that_is_none_is_refused_with_its_line(folder, start, end):
    (folder / "list.csv").write_text(f"video,start_seconds,end_seconds\nsub/a.MKV,,\nsub/a.MKV,{start},{end}\n")
    with pytest.raises(ValueError, match=r"list\.csv: line 3: "):
        find_videos([], manifest="list.csv")
