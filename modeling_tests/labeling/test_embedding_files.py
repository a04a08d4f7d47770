"""Files of embeddings: what is written is read again, to the bit, and what is no such file is one line."""

import csv
import json
import math
import os
import tracemalloc

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file, save_file

from fal_hf.labeling import embedding_files
from fal_hf.labeling.embedding_files import (
    EmbeddingFileError,
    EmbeddingModel,
    check_embeddings_output,
    read_embeddings,
    write_embeddings,
)
from fal_hf.labeling.label_files import OutputError
from fal_hf.labeling.records import failed_record, pack_embedding

SIZE = 6
VIEWS = {"num_clips": 2, "num_crops": 3, "scales": [0.5, 1.0], "windows": False, "window_seconds": None}
VIEWS |= {"hop_seconds": None}
MODEL = EmbeddingModel(
    size=SIZE, name="someone/model", made_by={"weights": "abc", "dtype": "float32", "processor": {}, "views": VIEWS}
)
SUFFIXES = (".parquet", ".safetensors", ".npy")
NUMBERS = np.random.default_rng(0).normal(size=(5, SIZE)).astype(np.float32)


def record_of(video: str, embedding: np.ndarray, **values) -> dict:
    common = {"video": video, "embedding": pack_embedding(embedding), "num_clips": 1, "duration_seconds": 2.5}
    return {**common, **values, "schema_version": 1}


WINDOWS = [
    {"start_seconds": start, "end_seconds": start + 1.0, "embedding": pack_embedding(NUMBERS[3 + number])}
    for number, start in enumerate((0.0, 1.5))
]
RECORDS = [
    record_of("a.mp4", NUMBERS[0]),
    failed_record("broken.mp4", "broken.mp4: is empty"),
    record_of('odd, "name"\n.mp4', NUMBERS[1]),
    record_of("b.mp4", NUMBERS[2], start_seconds=0.1, end_seconds=2.6),
    record_of("c.mp4", NUMBERS[0], windows=WINDOWS),
]
NAMES = ["a.mp4", 'odd, "name"\n.mp4', "b.mp4", "c.mp4", "c.mp4"]
TIMES = [[math.nan] * 2, [math.nan] * 2, [0.1, 2.6], [0.0, 1.0], [1.5, 2.5]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_again_to_the_bit(tmp_path, suffix):
    path = tmp_path / "new" / f"embeddings{suffix}"
    files = write_embeddings(path, iter(RECORDS), MODEL)
    assert {file.name for file in path.parent.iterdir()} == {file.name for file in files}
    found = read_embeddings(path)
    assert found.names == NAMES
    np.testing.assert_array_equal(found.windows, TIMES)
    np.testing.assert_array_equal(found.embeddings, NUMBERS)
    assert found.embeddings.dtype == np.float32
    assert found.model == (None if suffix == ".npy" else MODEL)


def test_parquet_has_a_row_for_each_video_those_that_failed_too(tmp_path):
    write_embeddings(tmp_path / "e.parquet", RECORDS, MODEL)
    table = parquet.read_table(tmp_path / "e.parquet")
    assert table.schema.names == ["video", "start_seconds", "end_seconds", "embedding", "duration_seconds", "error"]
    assert table.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), SIZE)
    rows = table.to_pylist()
    assert [row["video"] for row in rows] == ["a.mp4", "broken.mp4", *NAMES[1:]]
    assert rows[1] == {**dict.fromkeys(table.schema.names), "video": "broken.mp4", "error": "broken.mp4: is empty"}
    assert [row["error"] for row in rows if row["video"] != "broken.mp4"] == [None] * 5
    assert rows[0]["duration_seconds"] == 2.5 and rows[0]["start_seconds"] is None
    np.testing.assert_array_equal(np.float32(rows[0]["embedding"]), NUMBERS[0])


def test_numpy_and_safetensors_read_theirs_by_themselves(tmp_path):
    for suffix in (".npy", ".safetensors"):
        write_embeddings(tmp_path / f"e{suffix}", RECORDS, MODEL)
    np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), NUMBERS)
    np.testing.assert_array_equal(load_file(tmp_path / "e.safetensors")["embeddings"], NUMBERS)
    with open(tmp_path / "e.npy.csv", newline="") as file:
        assert [row["video"] for row in csv.DictReader(file)] == NAMES


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_collection_that_failed_is_an_empty_file(tmp_path, suffix):
    write_embeddings(tmp_path / f"e{suffix}", [RECORDS[1]], MODEL)
    found = read_embeddings(tmp_path / f"e{suffix}")
    assert found.names == [] and found.embeddings.shape == (0, SIZE) and found.windows.shape == (0, 2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_of_any_bytes_can_be_written(tmp_path, suffix):
    write_embeddings(tmp_path / f"e{suffix}", [record_of("clip-\udcff.mp4", NUMBERS[0])], MODEL)
    (name,) = read_embeddings(tmp_path / f"e{suffix}").names
    assert name in ("clip-\udcff.mp4", r"clip-\udcff.mp4")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_leaves_what_was_there(tmp_path, suffix):
    path = tmp_path / f"e{suffix}"
    write_embeddings(path, RECORDS, MODEL)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}

    def interrupted():
        yield RECORDS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(path, interrupted(), MODEL)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_embeddings_are_not_held_in_memory(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(embedding_files, "ROWS_AT_ONCE", 64)
    size, count = 4096, 2000
    embedding = np.arange(size, dtype=np.float32)
    records = (record_of(f"{number}.mp4", embedding + number) for number in range(count))
    model = EmbeddingModel(size=size, made_by=MODEL.made_by)
    tracemalloc.start()
    try:
        write_embeddings(tmp_path / f"e{suffix}", records, model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * size * count / 4
    found = read_embeddings(tmp_path / f"e{suffix}")
    np.testing.assert_array_equal(found.embeddings[[0, -1]], [embedding, embedding + count - 1])


def test_outputs_of_other_suffixes_and_places_are_refused(tmp_path):
    for name in ("e.csv", "e", ".npy", "folder.npy/"):
        with pytest.raises(OutputError):
            check_embeddings_output(f"{tmp_path}/{name}")
    with pytest.raises(OutputError, match=r"expected a suffix among .parquet, .safetensors, .npy, got .csv"):
        write_embeddings(tmp_path / "e.csv", RECORDS, MODEL)
    check_embeddings_output(tmp_path / "new" / "e.npy")
    assert not list(tmp_path.iterdir())


def test_more_names_than_safetensors_can_read_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_files, "MOST_HEADER_BYTES", 500)
    with pytest.raises(OutputError, match=r"expected fewer names, got 5; \.parquet takes any number"):
        write_embeddings(tmp_path / "e.safetensors", RECORDS, MODEL)
    assert not list(tmp_path.iterdir())


# ---- foreign and damaged files ----


def refused(path) -> str:
    with pytest.raises(EmbeddingFileError) as error:
        read_embeddings(path)
    message = str(error.value)
    assert message.startswith(f"{path}: expected embeddings as `fal embed` writes them") and "\n" not in message
    return message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_missing_is_told_of_by_the_system(tmp_path, suffix):
    with pytest.raises(FileNotFoundError):
        read_embeddings(tmp_path / f"gone{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"text", bytes(1000), b"\xff" * 1000, b"\x93NUMPY\x01\x00", b"PAR1" * 9])
def test_other_files_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"e{suffix}"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path, suffix):
    path = tmp_path / f"e{suffix}"
    write_embeddings(path, RECORDS, MODEL)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        refused(path)


def table_with(metadata: dict | None = None, **columns) -> pyarrow.Table:
    array = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(NUMBERS[:2].ravel()), SIZE)
    times = pyarrow.array([None, None], pyarrow.float64())
    data = {"video": ["a", "b"], "start_seconds": times, "end_seconds": times, "embedding": array}
    table = pyarrow.table(
        {**data, "duration_seconds": times, "error": pyarrow.array([None, None], "string"), **columns}
    )
    return table.replace_schema_metadata(metadata)


def test_foreign_tables_are_refused(tmp_path):
    path = tmp_path / "e.parquet"
    described = {embedding_files.MODEL_KEY: MODEL.to_json()}
    parquet.write_table(table_with(described), path)
    assert read_embeddings(path).names == ["a", "b"]
    for table in (
        pyarrow.table({"x": [1]}),
        table_with(),
        table_with({embedding_files.MODEL_KEY: "{"}),
        table_with({embedding_files.MODEL_KEY: "[" * 100_000}),
        table_with({embedding_files.MODEL_KEY: json.dumps({**json.loads(MODEL.to_json()), "size": SIZE + 1})}),
        table_with({embedding_files.MODEL_KEY: json.dumps({**json.loads(MODEL.to_json()), "size": 2**31})}),
        table_with({embedding_files.MODEL_KEY: json.dumps({**json.loads(MODEL.to_json()), "file_version": 2})}),
        table_with(described, video=[1, 2]),
        table_with(described, embedding=[[1.0] * SIZE] * 2),
        table_with(described, more=[1, 2]),
        table_with(described, video=pyarrow.array(["a", None])),
        table_with(described, start_seconds=[0.0, 1.0]),
        table_with(
            described,
            embedding=pyarrow.FixedSizeListArray.from_arrays(pyarrow.array([np.nan] * 2 * SIZE, "float32"), SIZE),
        ),
    ):
        parquet.write_table(table, path)
        refused(path)


def test_a_small_file_that_claims_many_rows_is_refused_in_little_memory(tmp_path):
    path, count = tmp_path / "e.parquet", 2_000_000
    zeros = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.zeros(count * SIZE, np.float32)), SIZE)
    times = pyarrow.nulls(count, pyarrow.float64())
    columns = {"video": pyarrow.array(["a"]).take(pyarrow.array(np.zeros(count, int)))}
    columns |= {"start_seconds": times, "end_seconds": times, "embedding": zeros, "duration_seconds": times}
    table = pyarrow.table({**columns, "error": pyarrow.nulls(count, pyarrow.string())})
    table = table.replace_schema_metadata({embedding_files.MODEL_KEY: MODEL.to_json()})
    parquet.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 100_000
    assert "more rows than" in refused(path)


def test_foreign_tensors_are_refused(tmp_path):
    path = tmp_path / "e.safetensors"
    good = {"videos": '["a", "b"]', "windows": "[null, [0, 1]]", "model": MODEL.to_json()}
    save_file({"embeddings": NUMBERS[:2]}, path, metadata=good)
    assert read_embeddings(path).names == ["a", "b"]
    for tensors, metadata in (
        ({"other": NUMBERS[:2]}, good),
        ({"embeddings": NUMBERS[0]}, good),
        ({"embeddings": NUMBERS[:2].astype(np.float64)}, good),
        ({"embeddings": NUMBERS[:2, :3].copy()}, good),
        ({"embeddings": NUMBERS[:3]}, good),
        ({"embeddings": NUMBERS[:2]}, None),
        ({"embeddings": NUMBERS[:2]}, {**good, "videos": "[1, 2]"}),
        ({"embeddings": NUMBERS[:2]}, {**good, "videos": '{"a": 1, "b": 2}'}),
        ({"embeddings": NUMBERS[:2]}, {**good, "windows": "[null]"}),
        ({"embeddings": NUMBERS[:2]}, {**good, "windows": "[[0], [1]]"}),
        ({"embeddings": NUMBERS[:2]}, {**good, "windows": "[null, [0, NaN]]"}),
        ({"embeddings": NUMBERS[:2]}, {**good, "windows": "[null, [0, Infinity]]"}),
        ({"embeddings": NUMBERS[:2]}, {**good, "model": '{"size": 6}'}),
        ({"embeddings": np.full((2, SIZE), np.inf, np.float32)}, good),
    ):
        save_file(tensors, path, metadata=metadata)
        refused(path)


def test_foreign_arrays_and_names_are_refused(tmp_path):
    path = tmp_path / "e.npy"
    for array in (NUMBERS[0], NUMBERS.astype(np.float64), np.array([["a"]]), np.array([[None]], dtype=object)):
        np.save(path, array)
        refused(path)
    write_embeddings(path, RECORDS, MODEL)
    names = tmp_path / "e.npy.csv"
    rows = names.read_text()
    for text in (rows + "d.mp4,,\n", "video\na.mp4\n", rows.replace("1.5", "soon"), ""):
        names.write_text(text)
        refused(path)
    os.remove(names)
    refused(path)


# ---- the model ----


def test_a_model_is_loaded_as_it_was_but_for_windows():
    options = MODEL.query_options()
    views = options.pop("views")
    assert (views.num_clips, views.num_crops, views.scales) == (2, 3, (0.5, 1.0))
    assert options == {"adaptive_patches": None, "dtype": "float32", "runtime": "auto"}
    windows = {**VIEWS, "windows": True, "window_seconds": 2.0}
    made_by = {**MODEL.made_by, "views": windows, "runtime": "torch", "adaptive_patches": {"share": 0.5}}
    options = EmbeddingModel(size=SIZE, made_by=made_by).query_options()
    assert not options["views"].windows and options["views"].num_clips is None
    assert (options["dtype"], options["runtime"], options["adaptive_patches"].share) == ("auto", "torch", 0.5)


@pytest.mark.parametrize(
    "change", [{"views": 1}, {"views": {"zebra": 1}}, {"views": {"num_crops": 2}}, {"adaptive_patches": [1]}]
)
def test_options_that_are_none_are_refused(change):
    with pytest.raises(ValueError):
        EmbeddingModel(size=SIZE, made_by={**MODEL.made_by, **change}).query_options()
    with pytest.raises(ValueError, match="expected how a model embeds videos"):
        EmbeddingModel(size=SIZE, made_by={}).query_options()
