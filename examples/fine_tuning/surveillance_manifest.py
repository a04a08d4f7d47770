"""Writes the manifest of the surveillance clips: 300 clips of two classes, grouped by the film they were cut from.

    python examples/fine_tuning/surveillance_manifest.py ../shared/media/surveillance runs/surveillance.csv

The folder has a folder of clips for each class, and `sources.txt`, which says the clips of each film. Films that share
a clip are one group, and so are all clips of no film.
"""

import argparse
import csv
import re
from pathlib import Path

from fal_hf.training.data import read_class_folders

CLIP = re.compile(r"^((?:no)?fi\d+):")
UNLISTED = "no film"


def read_films(sources: Path) -> dict[str, str]:
    """The film of each clip, by the clip's name; of films that share a clip, the first."""
    films: dict[str, str] = {}
    film = UNLISTED
    for line in sources.read_text(encoding="utf-8").splitlines():
        if line.startswith("http"):
            film = line.strip()
        elif match := CLIP.match(line):
            earlier = films.setdefault(match[1], film)
            if earlier != film:
                films = {clip: earlier if other == film else other for clip, other in films.items()}
                film = earlier
    return films


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the clips")
    parser.add_argument("manifest", type=Path, help="CSV file to write")
    args = parser.parse_args()
    films = read_films(args.folder / "sources.txt")
    rows = [
        {"path": clip.path, "label": clip.labels[0], "group": films.get(Path(clip.path).stem, UNLISTED)}
        for clip in read_class_folders(args.folder.resolve())
    ]
    args.manifest.parent.mkdir(parents=True, exist_ok=True)
    with args.manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "label", "group"])
        writer.writeheader()
        writer.writerows(rows)
    print(f"{args.manifest}: {len(rows)} clips of {len({row['group'] for row in rows})} groups")


if __name__ == "__main__":
    main()
