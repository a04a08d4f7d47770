"""Maps of collections: where points stand, how they are colored, and the page in a browser."""

import io
import json
import os

import numpy as np
import pytest
from browser import open_page
from media_files import moving_frames, write_video
from PIL import Image

from fal_hf.cli import main
from fal_hf.labeling.embedding_files import Embeddings
from fal_hf.labeling.options import MAP_METHODS
from fal_hf.reports.embedding_map import (
    COLORS,
    color_groups,
    draw_pictures,
    group_by_folder,
    place_points,
    read_groups,
    write_map,
)

pytest.importorskip("sklearn")
HOSTILE = "</script><script>alert('1')</script>\"&"


def make_collection(names: list[str], numbers: np.ndarray | None = None) -> Embeddings:
    numbers = np.random.default_rng(0).normal(size=(len(names), 6)) if numbers is None else numbers
    return Embeddings(names, np.full((len(names), 2), np.nan), numbers.astype(np.float32))


@pytest.mark.parametrize("method", MAP_METHODS)
def test_what_is_alike_is_near(method):
    rng = np.random.default_rng(1)
    centers = np.eye(8)[:3] * 5
    numbers = (centers[:, None] + rng.normal(size=(3, 20, 8)) * 0.3).reshape(60, 8)
    numbers *= rng.uniform(0.1, 10, size=(60, 1))  # how long they are says nothing of what they are like
    points = place_points(numbers.astype(np.float32), method=method)
    assert points.shape == (60, 2) and points.min() >= 0 and points.max() <= 1
    assert np.ptp(points, axis=0).max() == pytest.approx(1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(60) * 9
    assert (distances.argmin(axis=1) // 20 == np.arange(60) // 20).all()
    assert np.array_equal(points, place_points(numbers.astype(np.float32), method=method))


@pytest.mark.parametrize("method", MAP_METHODS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_points_and_points_that_are_the_same_have_places(method, count):
    for numbers in (np.random.default_rng(0).normal(size=(count, 3)), np.ones((count, 3)), np.zeros((count, 3))):
        points = place_points(numbers.astype(np.float32), method=method)
        assert points.shape == (count, 2) and np.isfinite(points).all()


def test_what_cannot_be_a_map_is_refused():
    with pytest.raises(ValueError, match="expected embeddings for a map, got none"):
        place_points(np.ones((0, 2), np.float32))
    with pytest.raises(ValueError, match="method: expected tsne or pca, got 'umap'"):
        place_points(np.ones((9, 2), np.float32), method="umap")


def test_the_largest_groups_have_colors_of_their_own():
    groups = [f"group {number}" for number in range(12) for _ in range(20 - number)] + [""] * 50
    colors = color_groups(groups)
    assert [colors[f"group {number}"] for number in range(12)] == [*range(9), 9, 9, 9]
    assert "" not in colors and len(COLORS) == 10
    assert group_by_folder(make_collection(["a/b/c.mp4", "d.mp4"])) == ["b", ""]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "labels.jsonl",
            '{"video": "a.mp4", "labels": [{"label": "x", "score": 1}, {"label": "y", "score": 0}]}\n'
            '{"video": "b.mp4", "error": "broken"}\n',
        ),
        (
            "labels.csv",
            "video,kind,label,score\na.mp4,label,x,0.9\na.mp4,label,y,0.1\na.mp4,parent,z,1\nb.mp4,error,,\n",
        ),
        ("manifest.csv", "\ufeffpath,label\na.mp4,x\n"),
    ],
)
def test_labels_are_those_that_files_name_first(tmp_path, monkeypatch, name, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_groups(name, make_collection(["a.mp4", "b.mp4", "c.mp4"])) == ["x", "", ""]
    assert read_groups(name, make_collection([str(tmp_path / "a.mp4")])) == ["x"], "expected the same file by its path"


def test_a_file_without_videos_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("name,label\na,b\n")
    with pytest.raises(ValueError, match=r"other\.csv: line 2: expected a video, got the columns name, label"):
        read_groups(tmp_path / "other.csv", make_collection(["a.mp4"]))


def test_pictures_are_of_files_that_can_be_read(tmp_path):
    video = str(write_video(tmp_path / "a.mp4", moving_frames(10)))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    names = [video, str(tmp_path / "broken.mp4"), "https://example.org/a.mp4", "gone.mp4", video]
    collection, done = make_collection(names), []
    collection.windows[4] = [100, 50]
    pictures = draw_pictures(collection, on_progress=lambda: done.append(1))
    assert pictures.keys() == {0} and len(done) == 5
    assert Image.open(io.BytesIO(pictures[0])).format == "JPEG"
    assert draw_pictures(collection, most=1).keys() == {0}


def test_a_picture_shows_the_points_in_their_colors(tmp_path):
    points = np.array([[0, 0], [1, 1], [0, 1], [1, 0]])
    write_map(tmp_path / "map.png", make_collection(["a"] * 4), points, ["x", "x", "x", "y"])
    pixels = np.asarray(Image.open(tmp_path / "map.png"))
    colors = {tuple(pixels[row, column]) for row, column in ((1160, 40), (40, 1160), (40, 40))}
    assert colors == {tuple(bytes.fromhex(COLORS[0][1:]))}
    assert tuple(pixels[1160, 1160]) == tuple(bytes.fromhex(COLORS[1][1:]))


def test_texts_are_escaped(tmp_path):
    collection = make_collection([HOSTILE, "b\udcff.mp4", "c", "d"])
    collection.windows[2] = [1, 2.5]
    write_map(tmp_path / "map.html", collection, place_points(collection.embeddings), [HOSTILE, "", "x", "x"])
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and page.count("<script") == 2 and "http://" not in page
    rows = json.loads(page.partition('id="rows">')[2].partition("</script>")[0])
    assert rows[0]["name"] == HOSTILE and rows[1]["name"] == "b\\udcff.mp4" and rows[2]["seconds"] == [1, 2.5]


@pytest.mark.slow
def test_the_page_opens_in_a_browser_and_shows_what_is_pointed_at(tmp_path, browser):
    video = str(write_video(tmp_path / "a.mp4", moving_frames(10)))
    collection = make_collection([video, HOSTILE, *"cdefgh"])
    points = np.array([[column / 3, row] for row in range(2) for column in range(4)])
    groups = [HOSTILE, *["x"] * 4, *["y"] * 3]
    write_map(tmp_path / "map.html", collection, points, groups, pictures=draw_pictures(collection))
    for width, height in ((1200, 900), (390, 800)):
        with open_page(browser, tmp_path / "map.html", viewport={"width": width, "height": height}) as page:
            assert page.locator("circle").count() == 8
            tip = page.locator("#tip")
            assert tip.is_hidden()
            point_at(page, 0)
            assert tip.is_visible() and HOSTILE in tip.inner_text() and video in tip.inner_text()
            assert tip.locator("img").evaluate("image => image.naturalWidth") > 0
            point_at(page, 1)
            assert HOSTILE in tip.inner_text() and tip.locator("img").is_hidden()
            page.get_by_role("button", name="y").click()
            assert page.locator("circle.dim").count() == 5
            before = page.locator("circle").nth(1).bounding_box()["width"]
            point_at(page, 6)
            page.mouse.wheel(0, -400)
            assert page.locator("svg").get_attribute("viewBox") != "-30 -30 1060 1060"
            page.locator("svg").dblclick()
            assert page.locator("svg").get_attribute("viewBox") == "-30 -30 1060 1060"
            assert page.locator("circle").nth(1).bounding_box()["width"] == pytest.approx(before)


def point_at(page, number: int) -> None:
    """Moves the mouse to a point of the map."""
    point = page.locator("circle").nth(number)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_the_command_draws_what_was_embedded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for number in range(4):
        write_video(tmp_path / "videos" / f"{number}.mp4", moving_frames(12, seed=number))
    assert main(["embed", "videos", "--output", "videos.npy", "--workers", "0", "--device", "cpu"]) == 0
    for output in ("map.html", "map.png"):
        assert main(["map", "videos.npy", "--output", output]) == 0
        assert os.path.getsize(output) > 5_000
    assert (tmp_path / "map.html").read_text().count("data:image/jpeg") == 4
    assert main(["map", "videos.npy", "--output", "map.html", "--pictures", "0", "--method", "pca"]) == 0
    assert "data:image/jpeg" not in (tmp_path / "map.html").read_text()
