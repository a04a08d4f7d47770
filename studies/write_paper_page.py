"""
Puts the studies into the documents: tables and text into docs/paper.md, plots into docs/studies/; the text between
them stays.

Where the page says `<!-- study: NAME -->`, what stands from there to `<!-- end -->` becomes the plot and text of that
study, or that it was not run yet. `--take` first takes what runs have left in runs/studies/ into studies/results/,
the large setting where there is one.

    python studies/write_paper_page.py --take
"""

import argparse
import re
import shutil
from pathlib import Path

from study import FOLDER, ROOT

PAGE = ROOT / "docs" / "paper.md"
PLOTS = ROOT / "docs" / "studies"
RESULTS = ROOT / "studies" / "results"
PLACE = re.compile(r"(<!-- study: (\w+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def take_runs(folder: Path) -> None:
    """Takes rows and text of each study into `RESULTS`, and its plot into the documents."""
    for target in (RESULTS, PLOTS):
        target.mkdir(parents=True, exist_ok=True)
    for setting in ("small", "full"):
        for text in sorted(folder.glob(f"*-{setting}.md")):
            name = text.stem.removesuffix(f"-{setting}")
            shutil.copy(text.with_suffix(".csv"), RESULTS / f"{name}.csv")
            shutil.copy(text, RESULTS / f"{name}.md")
            shutil.copy(text.with_suffix(".svg"), PLOTS / f"{name}.svg")


def fill_page(page: str) -> str:
    """The page with what the studies have left."""

    def fill(place: re.Match) -> str:
        mark, name = place.groups()
        text = RESULTS / f"{name}.md"
        if not text.exists():
            return f"{mark}\n`python studies/{name}.py` was not run yet.\n\n"
        return f"{mark}\n![{name.replace('_', ' ')}](studies/{name}.svg)\n\n{text.read_text(encoding='utf-8')}\n"

    return PLACE.sub(fill, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", action="store_true", help="take what runs have left first")
    if parser.parse_args().take:
        take_runs(FOLDER)
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
