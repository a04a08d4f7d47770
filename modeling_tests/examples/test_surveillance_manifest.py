"""The films that surveillance clips were cut from, and a split by film."""

import sys

import pytest
from video_classification_files import EXAMPLES

pytest.importorskip("sklearn")

sys.path.insert(0, str(EXAMPLES))

from surveillance_manifest import read_films

from fal_hf.training.data import check_leaks, read_manifest, split_clips


def test_surveillance_clips_are_split_by_film(media, tmp_path):
    films = read_films(media / "surveillance" / "sources.txt")
    assert films["fi001"] == films["nofi003"] != films["fi005"]
    assert "nofi070" not in films  # of no film
    rows = ["path,label,group"]
    for path in sorted((media / "surveillance").glob("*/*.mp4")):
        rows.append(f"{path},{path.parent.name},{films.get(path.stem, 'no film')}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    splits = split_clips(read_manifest(tmp_path / "clips.csv"), shares={"test": 0.25, "validation": 0.15}, seed=42)
    check_leaks(splits)
    assert sum(map(len, splits.values())) == 300
    for part in splits.values():
        assert 0.4 < sum(clip.labels == ("fight",) for clip in part) / len(part) < 0.6
