"""Streams in real time: windows that slide, one batch for all streams, bounded latency."""

import http.server
import json
import socketserver
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from media_files import moving_frames, write_video
from tiny_fal import model_scores

from fal_hf import VideoLabeler, read_frames
from fal_hf.bulk.watching import EndOfStream, WatchedWindow, watch
from fal_hf.cli import main


@pytest.fixture
def labeler(tiny_checkpoint):
    return VideoLabeler.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three files of 2 s, 25 frames a second."""
    folder = tmp_path_factory.mktemp("videos")
    return [str(write_video(folder / f"{seed}.ts", moving_frames(50, seed=seed))) for seed in range(3)]


def test_a_file_is_played_at_its_own_speed_and_its_windows_slide(labeler, videos):
    begun = time.monotonic()
    *windows, end = watch(labeler, videos[:1], window_seconds=0.4, hop_seconds=0.2, top_k=5)
    assert time.monotonic() - begun >= 1.9
    assert end == EndOfStream(videos[0], None)
    assert len(windows) >= 2
    for window in windows:
        assert window.end_seconds - window.start_seconds == pytest.approx(0.3, abs=0.05) or window.drop_rate > 0
        assert 0 <= window.drop_rate < 1 and window.latency_seconds > 0
    ends = [window.end_seconds for window in windows]
    assert ends == sorted(ends) and len(set(ends)) == len(ends)


def test_a_windows_scores_are_those_of_its_frames(labeler, videos):
    window = next(iter(watch(labeler, videos[:1], window_seconds=0.4, top_k=5)))
    assert (window.start_seconds, window.end_seconds) == pytest.approx((0.0, 0.32), abs=0.05)
    frames = read_frames(videos[0], seconds=[0.0, 0.12, 0.2, 0.32]).frames
    expected = model_scores(labeler, frames)
    scores = {label.label: label.score for label in window.labels}
    assert [scores[name] for name in "abcde"] == pytest.approx(expected.tolist(), abs=1e-5)


def test_streams_share_a_batch_and_one_that_fails_leaves_the_others(labeler, videos, tmp_path):
    score, sizes = labeler.score, []

    def noted(batch):
        sizes.append(len(batch[0]))
        time.sleep(0.05)  # a model that takes a while finds a window of each stream when it is free again
        return score(batch)

    labeler.score = noted
    missing = str(tmp_path / "missing.ts")
    events = list(watch(labeler, [*videos, missing], window_seconds=0.4))
    ends = {event.source: event.error for event in events if isinstance(event, EndOfStream)}
    assert "no such file" in ends.pop(missing)
    assert ends == dict.fromkeys(videos)
    assert {event.source for event in events if isinstance(event, WatchedWindow)} == set(videos)
    assert max(sizes) >= 2


def test_a_model_that_is_too_slow_drops_frames_and_not_behind(labeler, videos):
    score = labeler.score

    def slow(batch):
        time.sleep(0.9)
        return score(batch)

    labeler.score = slow
    *windows, _ = watch(labeler, videos[:1], window_seconds=0.4, hop_seconds=0.1)
    # Of the 20 frames that clips need at least 9 pass during a batch, and a window holds 4 of them.
    assert 2 <= len(windows) <= 4
    assert windows[-1].drop_rate > 0.2
    assert windows[-1].end_seconds > 1.0


def parts_as_they_play(path: str) -> Iterator[bytes]:
    """A file of two seconds in twentieths, one every tenth of a second."""
    with open(path, "rb") as file:
        data = file.read()
    for part in range(20):
        yield data[len(data) * part // 20 : len(data) * (part + 1) // 20]
        time.sleep(0.1)


class HttpHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts_as_they_play(self.server.video):
            self.wfile.write(b"%X\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *arguments):
        pass


class TcpHandler(socketserver.BaseRequestHandler):
    def handle(self):
        for part in parts_as_they_play(self.server.video):
            self.request.sendall(part)


@pytest.fixture(params=["http", "tcp"])
def live_url(videos, request):
    """A server that sends a video as fast as it plays, as a camera on the network does."""
    kinds = {"http": (http.server.ThreadingHTTPServer, HttpHandler), "tcp": (socketserver.TCPServer, TcpHandler)}
    server_class, handler = kinds[request.param]
    server = server_class(("127.0.0.1", 0), handler)
    server.video = videos[0]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{request.param}://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_local_stream_is_labeled_as_it_comes(tiny_checkpoint, live_url, capsys):
    assert main(["watch", live_url, "--model", str(tiny_checkpoint), "--window", "0.4", "--top-k", "1"]) == 0
    *windows, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert windows and all(window["source"] == live_url and len(window["labels"]) == 1 for window in windows)
    assert set(windows[0]) >= {"start_seconds", "end_seconds", "latency_seconds", "drop_rate", "schema_version"}
    assert end == {"source": live_url, "error": None, "schema_version": 1}


def test_a_stream_shorter_than_a_window_is_labeled_by_what_it_has(labeler, videos):
    window, end = watch(labeler, videos[:1], window_seconds=10.0, top_k=5)
    assert end == EndOfStream(videos[0], None)
    assert (window.start_seconds, window.end_seconds) == (0.0, 0.0)  # a frame each 2.5 s, of 2 s
    assert window.drop_rate == 0
    expected = model_scores(labeler, np.repeat(read_frames(videos[0], seconds=[0.0]).frames, 4, axis=0))
    scores = {label.label: label.score for label in window.labels}
    assert [scores[name] for name in "abcde"] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_source_is_opened_again_after_its_end_where_that_is_asked_for(labeler, live_url, tmp_path):
    missing = str(tmp_path / "missing.ts")
    ends = {live_url: [], missing: []}
    windows = []
    events = watch(labeler, [live_url, missing], window_seconds=0.4, reconnect_seconds=0.3)
    begun = time.monotonic()
    for event in events:
        if isinstance(event, WatchedWindow):
            windows.append(event)
            continue
        ends[event.source].append(event.error)
        if len(ends[live_url]) == 2:
            break
    events.close()
    assert time.monotonic() - begun > 4.0  # twice the two seconds of the stream
    assert ends[live_url] == [None, None]
    assert len(ends[missing]) > 5 and all("no such file" in error for error in ends[missing])
    starts = [window.start_seconds for window in windows]
    assert starts != sorted(starts)  # from 0 again


@pytest.fixture
def camera(tmp_path):
    """Two seconds of a camera that stands, with grain, then a second in which it moves."""
    rng, moving = np.random.default_rng(0), moving_frames(25)
    still = [np.clip(moving[0] + rng.normal(0, 2, (48, 64, 1)), 0, 255).astype(np.uint8) for _ in range(50)]
    return str(write_video(tmp_path / "camera.ts", [*still, *moving]))


def test_a_window_that_shows_what_an_earlier_one_did_has_its_labels(labeler, camera):
    score, sizes = labeler.score, []
    labeler.score = lambda batch: sizes.append(len(batch[0])) or score(batch)
    options = {"window_seconds": 0.4, "hop_seconds": 0.2}
    *windows, _ = watch(labeler, [camera], reuse_static=6.0, **options)
    still = [window for window in windows if window.end_seconds < 1.9]
    assert [window.is_reused for window in still] == [False] + [True] * (len(still) - 1) and len(still) >= 3
    assert all(window.labels == still[0].labels for window in still)
    last = windows[-1]
    assert not last.is_reused and last.labels != still[0].labels
    assert sum(sizes) == sum(not window.is_reused for window in windows) < len(windows)
    *windows, _ = watch(labeler, [camera], **options)
    assert not any(window.is_reused for window in windows)


def test_each_stream_has_its_own_window_to_reuse(labeler, camera, videos):
    events = list(watch(labeler, [camera, videos[0]], window_seconds=0.4, hop_seconds=0.2, reuse_static=6.0))
    windows = [event for event in events if isinstance(event, WatchedWindow)]
    reused = {
        source: [window.is_reused for window in windows if window.source == source] for source in (camera, videos[0])
    }
    assert any(reused[camera]) and not any(reused[videos[0]])


def test_the_share_of_windows_that_were_reused_is_told(tiny_checkpoint, camera, capsys):
    run = ["watch", camera, "--model", str(tiny_checkpoint), "--window", "0.4", "--reuse-static"]
    assert main(run) == 0
    output = capsys.readouterr()
    *windows, _ = map(json.loads, output.out.splitlines())
    num_reused = sum(window["is_reused"] for window in windows)
    assert f"fal: {num_reused} of {len(windows)} windows (" in output.err and num_reused > 0
    assert main(run[:-1]) == 0
    assert "took over" not in capsys.readouterr().err


def test_wrong_usage_is_one_line(tiny_checkpoint, capsys):
    run = ["watch", "--model", str(tiny_checkpoint)]
    assert main([*run, *["a.ts"] * 9]) == 2
    assert "expected 1 to 8 sources, got 9" in capsys.readouterr().err
    for option in (["--window", "-1"], ["--window", "nan"], ["--hop", "inf"]):
        assert main([*run, "a.ts", *option]) == 2
        assert "expected a positive window" in capsys.readouterr().err
    for seconds in ("0", "nan", "inf"):
        assert main([*run, "a.ts", "--reconnect", seconds]) == 2
        assert "expected a positive time until a source is opened again" in capsys.readouterr().err
    assert main([*run, "missing.ts"]) == 1
    assert "no such file" in json.loads(capsys.readouterr().out)["error"]
