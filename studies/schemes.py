"""Which attention scheme, order of steps, size and patch is the most accurate (paper, table 1 and section 4.14).

    python studies/schemes.py

Small models are trained from nothing on each data set, some of each kind. The paper's models are a hundred times
larger and start from a Vision Transformer that has seen millions of images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas
from comparison import cases_of, draw_kinds, make_all_clips, tell_kinds
from small_training import train_on
from study import Case, Setting, Study, Value

DIVIDED = "divided"
# Each kind of model, by what differs from the first.
KINDS: dict[str, dict[str, Value]] = {
    DIVIDED: {},
    "space only": {"attention_type": "space_only"},
    "joint": {"attention_type": "joint_space_time"},
    "sparse local-global": {"attention_type": "sparse_local_global"},
    "axial": {"attention_type": "axial"},
    "space before time": {"attention_order": "space_time"},
    "time and space at once": {"attention_order": "parallel"},
    "small": {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "large": {"hidden_size": 80, "num_attention_heads": 5, "intermediate_size": 160, "num_hidden_layers": 4},
    "large patches": {"patch_size": 16},
}
# By how many points the paper's divided attention is the better one: on FAL-500 and Something-Something V2 (table 1),
# or on ActionNet-400 and Something-Something V2 (section 4.14).
PAPER = {
    "space only": "1.1 and 22.9",
    "joint": "0.6 and 1.0",
    "sparse local-global": "2.1 and 3.2",
    "axial": "4.5 and 3.3",
    "space before time": "0.5 and 0.5",
    "time and space at once": "0.4",
    "small": "about 5",
    "large": "1 and 1",
    "large patches": "about 3",
}


def cases(setting: Setting) -> Sequence[Case]:
    return cases_of(list(KINDS)[:2] if setting == "toy" else list(KINDS), setting)


def measure(case: Case, files: Path, setting: Setting) -> Mapping[str, Value]:
    result = train_on(case["data"], files, setting, seed=case["seed"], changes=KINDS[case["model"]])
    return {"accuracy_percent": 100 * result.figures["test"]["accuracy"]}


def tell(table: pandas.DataFrame) -> str:
    return tell_kinds(table, "python studies/schemes.py", DIVIDED, PAPER)


STUDY = Study(name="schemes", cases=cases, prepare=make_all_clips, measure=measure, draw=draw_kinds, tell=tell)

if __name__ == "__main__":
    STUDY.main()
