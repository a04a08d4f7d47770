"""What names a checkpoint."""

import pytest

from fal_hf.cli import main
from fal_hf.conversion import ConversionError
from fal_hf.conversion.sources import require_name


@pytest.mark.parametrize("name", ["google/vit-base-patch16-224", "gpt2", "someone/model.v2"])
def test_what_may_be_a_hub_id_passes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_name(name)


@pytest.mark.parametrize(
    "name", ["weights.pyth", "./folder", "../a/b", "a/b/c", "/no/such/folder", "a/model.safetensors"]
)
def test_a_path_that_is_not_there_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConversionError, match="expected a file, a folder or a Hub id, got none of them"):
        require_name(name)


def test_what_is_there_passes_whatever_it_is_called(tmp_path):
    (tmp_path / "weights.pyth").write_text("")
    require_name(tmp_path / "weights.pyth")


def test_the_command_says_so_before_it_loads_anything(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fal_hf.conversion.converter", None)
    assert main(["convert", str(tmp_path / "gone.pyth"), "--output", str(tmp_path / "out")]) == 1
    assert "gone.pyth: expected a file, a folder or a Hub id" in capsys.readouterr().err
