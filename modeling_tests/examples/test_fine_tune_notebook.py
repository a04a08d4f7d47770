"""The notebook, executed as a reader executes it, with a stand-in for the Hub that it pushes to."""

from pathlib import Path

import pytest
from hub_stand_in import HubStandIn

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("accelerate")
pytest.importorskip("evaluate")
pytest.importorskip("sklearn")

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "fine_tune.ipynb"


def read_notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_kept_without_outputs():
    notebook = read_notebook()
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in notebook.cells if "outputs" in cell)


def outputs_of(notebook, text: str) -> list:
    """The outputs of the cell that contains a text."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and text in cell.source]
    return cell.outputs


def test_the_notebook_labels_trains_shows_and_pushes(tmp_path, monkeypatch):
    notebook = read_notebook()
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source += '\nREPO_ID = "someone/fal-moves"'
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # threads that wait for a busy machine take many times as long
    with HubStandIn({"hf_valid": "someone"}) as hub:
        for name, value in hub.environment(token="hf_valid", cache=tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
        files = hub.repositories["someone/fal-moves"].refs["main"].files
    assert {"README.md", "config.json", "model.safetensors", "modeling_fal.py"} <= files.keys()
    assert "Label(" in outputs_of(notebook, "VideoLabeler.from_pretrained()")[-1].data["text/plain"]
    assert float(outputs_of(notebook, "train(**arguments)")[-1].data["text/plain"]) >= 0.8  # chance: a third
    shown = outputs_of(notebook, "score_of_truth(prediction):.0%")
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    assert "across" in outputs_of(notebook, "from_pretrained(result.model_dir)")[-1].data["text/plain"].split(")")[0]
