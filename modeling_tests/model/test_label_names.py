"""Labels in texts and files: every way to write them, and what is refused."""

import json
import subprocess
import sys
import time

import pytest

from fal_hf.model.label_names import find_labels, read_labels, split_labels

# What a comma, a line or a cell could part wrongly.
NAMES = ["zumba, slow", 'a "dog"', "два\nслова", "一二\u2028三", "-->"]
FILES = {
    "list.json": json.dumps(NAMES),
    "numbers.json": json.dumps(dict(reversed([*enumerate(NAMES)]))),
    "names.csv": '"zumba, slow"\n"a ""dog"""\n"два\nслова"\n一二\u2028三\n-->\n',
    "numbered.csv": 'id,name\n4,-->\n0,"zumba, slow"\n1,"a ""dog"""\n2,"два\nслова"\n3,一二\u2028三\n',
}


def test_labels_of_a_text_stand_between_commas():
    assert find_labels(" a dog runs , 猫が走る,x.txt/y") == ["a dog runs", "猫が走る", "x.txt/y"]
    assert split_labels("one") == ["one"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "each a text, got ''"),
        ("a,,b", "each a text, got ''"),
        ("a, b,", "each a text, got ''"),
        ("a,b, a", "that differ, got a more than once"),
        ("a,\udcff", r"each a text, got '\\udcff'"),
        ("gone.txt", "gone.txt: expected labels with commas between them or a file of labels, found no such file"),
        ("a, gone.json", "a, gone.json: expected labels with commas"),
    ],
)
def test_what_are_no_labels_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        find_labels(text)


@pytest.mark.parametrize("name", FILES)
def test_labels_in_any_script_come_out_of_files_as_they_are(tmp_path, name):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert find_labels(str(tmp_path / name)) == NAMES


def test_a_line_of_a_text_file_is_a_label(tmp_path):
    (tmp_path / "labels.txt").write_bytes("\ufeffzumba, slow\r\n 一二\u2028三 \n\n".encode())
    assert read_labels(tmp_path / "labels.txt") == ["zumba, slow", "一二\u2028三"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", b"\n", "labels.txt: expected names, got none"),
        ("labels.txt", b"a\nb\na\n", "labels.txt: expected every name once, got a more than once"),
        ("labels.txt", b"\xff", "labels.txt: .* can't decode"),
        ("labels.json", rb'["\ud800"]', r"labels.json: expected names, got '\\ud800'"),
        ("labels.csv", b"a" * 200_000, "labels.csv: field larger than field limit"),
        ("labels.json", b"[" * 100_000, "labels.json: maximum recursion depth"),
        ("labels.xml", b"<a/>", "labels.xml: expected labels in a .json, .csv, .txt file"),
    ],
)
def test_a_file_of_something_else_is_refused_by_its_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / name)


def test_ten_thousand_labels_are_read_at_once_and_refused_in_few_words(tmp_path):
    path, names = tmp_path / "labels.txt", [f"движение {number}" for number in range(10_000)]
    path.write_text("\n".join(names), encoding="utf-8")
    begun = time.perf_counter()
    assert read_labels(path) == names
    assert time.perf_counter() - begun < 1
    path.write_text("\n".join(names * 2), encoding="utf-8")
    with pytest.raises(ValueError) as refused:
        read_labels(path)
    assert len(str(refused.value)) < 300


def test_nothing_of_it_needs_torch():
    code = "import sys; sys.argv = ['fal']; import fal_hf.model.label_names; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
