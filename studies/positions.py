"""What the tables of positions and times are worth (paper, section 4.9 and table 4).

    python studies/positions.py

Small models with divided attention are trained from nothing on each data set, some with each kind of table.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas
from comparison import cases_of, draw_kinds, make_all_clips, tell_kinds
from small_training import train_on
from study import Case, Setting, Study, Value

SPACE_TIME = "space and time"
KINDS = {SPACE_TIME: "space_time", "space only": "space_only", "none": "none"}
# By how many points tables of space and time are the better ones on FAL-500 and Something-Videos (table 4).
PAPER = {"space only": "2.8 and 4.7", "none": "6.1 and 8.1"}


def cases(setting: Setting) -> Sequence[Case]:
    return cases_of(list(KINDS), setting)


def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    changes = {"position_embedding_type": KINDS[case["model"]]}
    result = train_on(case["data"], files, setting, seed=case["seed"], changes=changes)
    return {"accuracy_percent": 100 * result.figures["test"]["accuracy"]}


def tell(table: pandas.DataFrame) -> str:
    return tell_kinds(table, "python studies/positions.py", SPACE_TIME, PAPER)


STUDY = Study(name="positions", cases=cases, prepare=make_all_clips, measure=measure, draw=draw_kinds, tell=tell)

if __name__ == "__main__":
    STUDY.main()
