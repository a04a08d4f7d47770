"""The page of an evaluation, read by a parser and, where there is one, by a browser."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from media_files import moving_frames, write_video
from PIL import Image
from tiny_fal import tiny_config, tiny_model
from video_classification_files import CLASSES, write_class_folders

pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

from browser import open_page
from sklearn import metrics as sklearn_metrics

from fal_hf import FALVideoProcessor
from fal_hf.cli import main
from fal_hf.reports.evaluation_report import ReportArguments, list_pairs, list_rows, write_report
from fal_hf.training import Calibration, EvaluationReport, Fit, LabeledClip, Prediction
from fal_hf.training.metrics import calibration_error, per_class_table, reliability_table, wilson_interval

HOSTILE = "<script>alert('1')</script>\"&"
LABELS = ["cut", HOSTILE, "pour", "never"]


class Page(HTMLParser):
    """The tables of a page by their id, as rows of cells (text, attributes); its figures, pictures, texts and tags."""

    def __init__(self, path: Path):
        super().__init__()
        self.tables, self.figures, self.pictures, self.tags, self.texts = {}, {}, [], [], []
        self.cells, self.row = None, None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        if tag == "table":
            self.cells = self.tables.setdefault(attributes["id"], [])
        elif tag == "tr":
            self.cells.append([])
        elif tag in ("th", "td"):
            self.row = self.cells[-1]
            self.row.append(["", attributes])
        elif tag == "img":
            self.pictures.append(attributes["src"])
        if "data-figure" in attributes:
            self.figures[attributes["data-figure"]] = float(attributes["data-value"])

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.row = None

    def handle_data(self, data):
        self.texts.append(data)
        if self.row is not None:
            self.row[-1][0] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, table: str) -> list[list[str]]:
        """What the cells of a table's body stand for."""
        return [[attributes.get("data-value", text) for text, attributes in row] for row in self.tables[table][1:]]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("<b>videos")
    return [str(write_video(folder / f"{seed} <object>.mp4", moving_frames(20, seed=seed))) for seed in range(3)]


def make_report(tmp_path, videos, *, several: bool = False, count: int = 40, perfect: bool = False, **fields):
    """A report of random scores; one label is never there, and never said."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (count, len(LABELS))) - [0, 0, 0, 60]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if several:
        scores = 1 / (1 + np.exp(-logits))
        said = (scores >= 0.5).astype(int)
        truth = said if perfect else said ^ (rng.random(said.shape) < 0.2)
        truth[:, 3] = 0
        names = [[tuple(np.array(LABELS)[row > 0].tolist()) for row in rows] for rows in (said, truth)]
        is_right = (said == truth).all(axis=1)
    else:
        said = scores.argmax(axis=1)
        truth = said if perfect else np.where(rng.random(count) < 0.6, said, rng.integers(3, size=count))
        names = [[(LABELS[number],) for number in rows] for rows in (said, truth)]
        is_right = said == truth
    predictions = [
        Prediction(
            clip=LabeledClip(path=videos[number % len(videos)], labels=names[1][number]),
            scores=dict(zip(LABELS, scores[number].tolist(), strict=True)),
            labels=names[0][number],
        )
        for number in range(count)
    ]
    figures = {"num_crops": 1, "num_videos": count, "accuracy": is_right.mean(), "clip_accuracy": 0.5}
    figures |= {"f1_macro": sklearn_metrics.f1_score(truth, said, average="macro"), "f1_weighted": 0.5}
    figures |= {"accuracy_interval": wilson_interval(int(is_right.sum()), count), "negative_log_likelihood": 0.5}
    figures["calibration_error"] = calibration_error(scores, truth)
    figures |= {"mean_average_precision": 0.8} if several else {"majority_share": 0.4}
    report = EvaluationReport(
        model=f"runs/{HOSTILE}",
        split="test",
        dataset_type="local",
        dataset_name=HOSTILE,
        labels=LABELS,
        results=[{"num_clips": number, **figures} for number in (1, 3)],
        per_class=per_class_table(said, truth, LABELS, scores if several else None),
        confusion=None if several else sklearn_metrics.confusion_matrix(truth, said, labels=range(len(LABELS))),
        reliability=reliability_table(scores, truth),
        predictions=predictions,
        unreadable={(f"/videos/{HOSTILE}.mp4", 0.0): f"no {HOSTILE}"},
        output_dir=tmp_path,
    )
    return replace(report, **fields), said, truth


def write_and_read(report: EvaluationReport, tmp_path: Path, **options) -> Page:
    write_report(report, tmp_path / "report.html", **options)
    return Page(tmp_path / "report.html")


def test_the_figures_of_the_page_are_those_of_scikit_learn(tmp_path, videos):
    report, said, truth = make_report(tmp_path, videos)
    page = write_and_read(report, tmp_path)
    assert page.figures["Accuracy"] == sklearn_metrics.accuracy_score(truth, said)
    assert page.figures["Macro F1"] == sklearn_metrics.f1_score(truth, said, average="macro")
    assert (
        page.figures["calibration_error"]
        == page.figures["Calibration error"]
        == report.results[0]["calibration_error"]
    )
    columns = sklearn_metrics.precision_recall_fscore_support(truth, said, labels=range(3))
    *rows, never = page.values("labels")
    for number, row in enumerate(rows):
        assert row[0] == LABELS[number]
        assert [float(value) for value in row[1:]] == pytest.approx([column[number] for column in columns])
    assert never == ["never", "", "", "", "0"]
    low, high = wilson_interval(int(((said == 0) & (truth == 0)).sum()), int((truth == 0).sum()))
    assert f"{low:.2f} to {high:.2f}" in page.tables["labels"][1][2][0]
    low, high = report.results[-1]["accuracy_interval"]
    assert f"95 % interval {100 * low:.1f} to {100 * high:.1f}" in page.text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_matrix_of_the_page_is_that_of_scikit_learn(tmp_path, videos):
    report, said, truth = make_report(tmp_path, videos)
    page = write_and_read(report, tmp_path)
    expected = sklearn_metrics.confusion_matrix(truth, said, labels=range(len(LABELS)))
    head, *rows = page.tables["matrix"]
    assert [text for text, _ in head[1:]] == LABELS
    for number, (name, *cells) in enumerate(rows):
        counts = [int(text or 0) for text, attributes in cells for _ in range(int(attributes.get("colspan", 1)))]
        assert name[0] == LABELS[number] and counts == expected[number].tolist()
        shares = [float(attributes["style"].removeprefix("--s:")) for text, attributes in cells if text]
        assert sum(shares) == pytest.approx(1 if truth.tolist().count(number) else 0, abs=0.02)
    true, predicted, count, share = page.values("pairs")[0]
    off_diagonal = expected * (1 - np.eye(len(LABELS), dtype=int))
    assert int(count) == off_diagonal.max()
    place = LABELS.index(true), LABELS.index(predicted)
    assert off_diagonal[place] == off_diagonal.max()
    assert share.split()[0] == f"{100 * expected[place] / expected[place[0]].sum():.1f}"


def test_names_are_escaped(tmp_path, videos):
    report, *_ = make_report(tmp_path, videos)
    page = write_and_read(report, tmp_path)
    assert page.tags.count("script") == 1 and "object" not in page.tags
    assert HOSTILE in page.text and f"{HOSTILE}.mp4" in page.values("unreadable")[0][0]
    assert "0 <object>.mp4" in page.text


def test_mistakes_come_with_pictures_the_most_confident_first(tmp_path, videos):
    report, *_ = make_report(tmp_path, videos)
    page = write_and_read(report, tmp_path, mistakes=5)
    assert len(page.pictures) == 5 * 4
    for picture in page.pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture.removeprefix("data:image/jpeg;base64,"))))
        image.load()
        assert image.size == (64, 48)
    scores = sorted((max(one.scores.values()) for one in report.mistakes), reverse=True)[:5]
    _, _, below = page.text.partition(f"5 of {len(report.mistakes)}, those first")
    said = [words.split()[0] for words in re.findall(r"said (?:\S+ )*?([\d.]+ %)", below)]
    assert said == [f"{100 * score:.1f}" for score in scores]


def test_videos_that_are_gone_or_broken_are_there_by_name(tmp_path, videos):
    (tmp_path / "broken.mp4").write_text("no video")
    report, *_ = make_report(tmp_path, [str(tmp_path / "gone <b>.mp4"), str(tmp_path / "broken.mp4"), "clip-\udcff"])
    page = write_and_read(report, tmp_path, mistakes=100)
    assert page.pictures == [] and page.text.count("No pictures:") == len(report.mistakes)
    assert "gone <b>.mp4" in page.text and "broken.mp4" in page.text and "clip-\\udcff" in page.text


@pytest.mark.parametrize("several", [False, True])
def test_where_every_video_is_right_there_are_no_mistakes(tmp_path, videos, several):
    report, *_ = make_report(tmp_path, videos, several=several, perfect=True)
    page = write_and_read(report, tmp_path)
    assert page.figures["Accuracy"] == 1 and page.pictures == [] and "every video is right" in page.text
    assert "pairs" not in page.tables
    assert several or "every video got its label" in page.text


def test_mistakes_may_be_left_out(tmp_path, videos):
    report, *_ = make_report(tmp_path, videos)
    page = write_and_read(report, tmp_path, mistakes=0)
    assert page.pictures == [] and "none of which is shown" in page.text
    with pytest.raises(ValueError, match="--report_mistakes: expected at least 0, got -1"):
        ReportArguments(report_mistakes=-1)


def test_several_labels_have_average_precisions_and_no_matrix(tmp_path, videos):
    report, said, truth = make_report(tmp_path, videos, several=True)
    page = write_and_read(report, tmp_path)
    scores = np.array([list(one.scores.values()) for one in report.predictions])
    assert "matrix" not in page.tables and "pairs" not in page.tables
    assert page.figures["Mean average precision"] == 0.8
    *rows, never = page.values("labels")
    columns = sklearn_metrics.precision_recall_fscore_support(truth[:, :3], said[:, :3])
    for number, row in enumerate(rows):
        precision, recall, f1, average, error, support = map(float, row[1:])
        assert [precision, recall, f1, support] == pytest.approx([column[number] for column in columns])
        assert average == sklearn_metrics.average_precision_score(truth[:, number], scores[:, number])
        assert error == calibration_error(scores[:, [number]], truth[:, [number]])
    assert never[4] == "" and never[-1] == "0"


def test_levels_and_a_calibration_are_tables(tmp_path, videos):
    report, *_ = make_report(tmp_path, videos)
    levels = [
        {"level": number, "num_labels": 2, "num_videos": 40, "accuracy": 0.85, "f1_macro": 0.6} for number in (0, 1)
    ]
    fits = [Fit(calibration_error=error, negative_log_likelihood=10 * error) for error in (0.1, 0.05)]
    calibration = Calibration(temperature=1.5, num_videos=40, before=fits[0], after=fits[1], folder=tmp_path)
    results = [{**row, "levels": levels, "accuracy_interval_by_group": (0.111, 0.999)} for row in report.results]
    page = write_and_read(replace(report, results=results, calibration=calibration), tmp_path)
    assert page.values("levels")[1] == ["1", "2", "40", "0.85", "0.6"]
    low, high = wilson_interval(34, 40)
    assert f"{low:.2f} to {high:.2f}" in page.tables["levels"][1][3][0]
    assert [row[1:] for row in page.values("calibration")] == [["0.1", "0.05"], ["1.0", "0.5"]]
    assert "temperature 1.500" in page.text and "between 11.1" in page.text
    assert [row[:2] for row in page.values("clips")] == [["1", "40"], ["3", "40"]]


def test_hundreds_of_labels_are_a_table_as_large_as_what_is_in_it():
    matrix = np.zeros((2500, 2500), dtype=int)
    matrix[0, [0, 1, 2400]] = 3, 1, 4
    first, second, *_ = list_rows(matrix)
    assert [(cell["span"], cell["count"]) for cell in first] == [
        (1, 3),
        (1, 1),
        (1000, 0),
        (1000, 0),
        (398, 0),
        (1, 4),
        (99, 0),
    ]
    assert [cell["span"] for cell in second] == [1000, 1000, 500]
    names = [f"label {number}" for number in range(2500)]
    assert [(pair["said"], pair["count"], pair["share"]) for pair in list_pairs(matrix, names)] == [
        ("label 2400", 4, 0.5),
        ("label 1", 1, 0.125),
    ]


def test_the_command_writes_the_page_and_a_calibrated_model(tmp_path, capsys, monkeypatch):
    """Labels are the model's own best ones, but for some that are changed: so there is a temperature to be found."""
    monkeypatch.chdir(tmp_path)
    names = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: number for number, name in enumerate(CLASSES)}}
    tiny_model(tiny_config(num_labels=2, **names)).save_pretrained("model")
    FALVideoProcessor(num_frames=4, size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        "model"
    )
    write_class_folders(tmp_path / "clips", per_class=15)
    command = ["evaluate", "--model_name_or_path", "model", "--num_clips", "1", "--device", "cpu"]
    assert main([*command, "--test_dir", "clips"]) == 0
    rows = [json.loads(line) for line in Path("runs/evaluation/model/predictions.jsonl").read_text().splitlines()]
    with open("test.jsonl", "w") as file:
        for number, row in enumerate(rows):
            (said,) = row["predicted"]
            label = said if number % 3 else next(name for name in CLASSES if name != said)
            file.write(json.dumps({"path": row["path"], "label": label}) + "\n")
    capsys.readouterr()
    options = ["--test_file", "test.jsonl", "--report", "report.html", "--calibrate", "calibrated"]
    assert main([*command, *options]) == 0
    printed = capsys.readouterr().out
    assert "calibration on 30 videos: temperature" in printed and "report.html: all of this as a page" in printed
    page = Page(Path("report.html"))
    assert page.figures["Accuracy"] == pytest.approx(2 / 3) and len(page.pictures) == 10 * 4
    found = json.loads(Path("runs/evaluation/model/evaluation.json").read_text())["calibration"]
    assert page.values("calibration")[1][1] == str(found["before"]["negative_log_likelihood"])
    assert json.loads(Path("model/config.json").read_text())["temperature"] == 1
    assert json.loads(Path("calibrated/config.json").read_text())["temperature"] == found["temperature"]
    again = ["evaluate", "--model_name_or_path", "calibrated", *command[3:], "--test_file", "test.jsonl"]
    assert main([*again, "--calibrate", "twice"]) == 0
    twice = json.loads(Path("runs/evaluation/calibrated/evaluation.json").read_text())
    assert twice["calibration"]["temperature"] == pytest.approx(found["temperature"], rel=1e-3)
    assert twice["results"][0]["negative_log_likelihood"] < found["before"]["negative_log_likelihood"]
    assert twice["results"][0]["accuracy"] == pytest.approx(2 / 3)


def test_videos_that_tell_no_temperature_end_in_a_line_and_the_page_is_there(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: number for number, name in enumerate(CLASSES)}}
    model = tiny_model(tiny_config(num_labels=2, **names))
    model.classifier.weight.data.zero_()
    model.classifier.bias.data.copy_(model.classifier.bias.new_tensor([9.0, 0.0]))
    model.save_pretrained("model")
    FALVideoProcessor(num_frames=4, size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        "model"
    )
    clips = write_class_folders(tmp_path / "clips", per_class=2)
    for clip in (clips / "dark").iterdir():
        clip.unlink()
    command = ["evaluate", "--model_name_or_path", "model", "--num_clips", "1", "--device", "cpu"]
    status = main([*command, "--test_dir", "clips", "--report", "report.html", "--calibrate", "calibrated"])
    output, errors = capsys.readouterr()
    assert status == 2 and "named all too well" in errors and errors.startswith("fal: ") and errors.count("\n") == 1
    assert "video accuracy" in output and not Path("calibrated").exists()
    assert Page(Path("report.html")).figures["Accuracy"] == 1


# ---- in a browser


@pytest.mark.slow
def test_the_page_opens_in_a_browser_and_its_columns_sort(tmp_path, videos, browser):
    report, *_ = make_report(tmp_path, videos)
    write_report(report, tmp_path / "report.html")
    with open_page(browser, tmp_path / "report.html") as page:
        head = page.locator("#labels thead th")
        by_column = {}
        for column in range(head.count()):
            head.nth(column).locator("button").click()
            order = "descending" if column else "ascending"
            for direction in (order, {"ascending": "descending", "descending": "ascending"}[order]):
                assert head.nth(column).get_attribute("aria-sort") == direction
                assert page.locator("#labels [aria-sort]").count() == 1
                cells = page.locator("#labels tbody tr > *").evaluate_all("all => all.map(one => one.dataset.value)")
                values = cells[column :: head.count()]
                by_column[column, direction] = values
                head.nth(column).locator("button").click()
        names = by_column[0, "ascending"]
        assert sorted(names) == sorted(LABELS) and names == by_column[0, "descending"][::-1]
        for column in range(1, 5):
            for direction in ("ascending", "descending"):
                known = [float(value) for value in by_column[column, direction] if value]
                assert known == sorted(known, reverse=direction == "descending")
                assert all(by_column[column, direction][: len(known)])  # those without a value are last
        assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth === 64)")


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_paper(tmp_path, videos, browser, several, scheme):
    report, *_ = make_report(tmp_path, videos, several=several)
    write_report(report, tmp_path / "report.html")
    size = {"width": 360, "height": 740}
    with open_page(browser, tmp_path / "report.html", viewport=size, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(251, 251, 250)", "dark": "rgb(20, 23, 26)"}[scheme]
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.pdf().startswith(b"%PDF")
