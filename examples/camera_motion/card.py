"""Makes the card of the camera-motion checkpoint.

    CHECKPOINT=src/fal_hf/checkpoints/camera_motion
    python examples/camera_motion/compare.py --photos ../shared/photos --json $CHECKPOINT/evaluation.json
    python examples/camera_motion/card.py --checkpoint $CHECKPOINT

Sizes, cost, preprocessing and labels come from the checkpoint and the figures from `evaluation.json`; what stands here
is what no file knows: what the labels mean, how the weights were made, what they cannot do.
"""

import argparse
import json
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard

from fal_hf.hub import Evaluation, build_model_card
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT

SUMMARY = """\
A small FAL ({megabytes:.1f} MB) that says how the camera moves in a video. It comes with the package `fal-hf`;
`fal label` uses it unless `--model` names another.

Directions are the camera's, as film people use them: in `pan_right` the camera turns to the right and the picture
slides to the left; in `roll_clockwise` the camera turns clockwise, seen from behind it, and the picture turns
counter-clockwise; in `zoom_in` things grow. `shake` is strong jitter that goes nowhere."""

USAGE = """\
```console
$ fal label video.mp4
```

```python
from fal_hf import VideoLabeler

labeler = VideoLabeler.from_pretrained()
print(labeler("video.mp4").labels)
```"""

ORIGIN = """\
Trained from nothing on video rendered from 1,300 of 1,600 CC0 photographs (short side 288, all of clothing), which
were split by a seeded permutation before anything was rendered: the exact homographies of a turning, rolling and
zooming camera at many speeds and fields of view, with easing, hand-held jitter, moving foreground objects, exposure
and color drift, blur, noise and real H.264 compression. Nothing else was used; the weights started from a structured
random state.

`examples/camera_motion/train.py` with its defaults trained it in one run: 4,000 steps of 32 clips, after a first
stage of 400 steps on single patches; 38 minutes on one thread of a 2-core Intel Xeon at 2.50 GHz with a rendering
process beside it."""

COMMAND = "python examples/camera_motion/compare.py --photos ../shared/photos --json evaluation.json"

EVALUATION = """\
{total} H.264 files ({per_label:.0f} a label, CRF 18 to 35, short sides 180 to 288, four aspect ratios, four frame
rates, 1 to 4 seconds, 45 % with foreground objects) rendered from 200 photographs that training never saw, labeled
through `VideoLabeler`, beside feature tracking with a RANSAC homography whose thresholds were tuned on files from
training photographs. Rendered anew, some files differ in a few pixels: on another rendering of the same videos this
checkpoint was right for 296 and the baseline for 271."""

LIMITS = """\
- The test files come from the same renderer as the training clips, only from other photographs; real film is harder.
  On 300 real clips of fixed surveillance cameras, which have no ground truth of their own,
  `fal label --top-k 1 --json` says `static` for 272.
- A camera that travels (dolly, truck, crane) is none of the ten labels; parallax was never seen in training.
- People or objects that fill most of the frame are taken for the camera's motion.
- One label describes the whole video. Several movements one after the other give a mixture of scores.
- Motions slower than about 0.06 frame heights a second are near the edge of what the 64-pixel frames show."""

METHODS = {"fal": "this checkpoint", "baseline": "feature tracking and homography"}


def build_card(checkpoint: Path) -> ModelCard:
    """The card of the checkpoint, from its files and the texts above."""
    figures = json.loads((checkpoint / "evaluation.json").read_text())
    return build_model_card(
        checkpoint,
        license="mit",
        name="FAL camera motion",
        tags=["camera-motion"],
        summary=SUMMARY.format(megabytes=(checkpoint / "model.safetensors").stat().st_size / 1e6),
        usage=USAGE,
        origin=ORIGIN,
        evaluations=[evaluation(figures)],
        limits=LIMITS,
    )


def evaluation(figures: dict[str, dict]) -> Evaluation:
    """Top-1 for the Hub's index; the baseline and the labels one by one in the text."""
    own = figures["fal"]
    total = own["total"]
    result = EvalResult(
        task_type="video-classification",
        dataset_type="rendered",
        dataset_name=f"Camera motion rendered from unseen photographs ({total} H.264 files)",
        metric_type="accuracy",
        metric_name="top-1",
        metric_value=round(own["correct"] / total, 3),
    )
    introduction = EVALUATION.format(total=total, per_label=total / len(own["by_label"]))
    return Evaluation(result, COMMAND, "\n\n".join([introduction, compare_methods(figures), compare_labels(figures)]))


def compare_methods(figures: dict[str, dict]) -> str:
    """Top-1 and its interval, a row for each method."""
    rows = ["| | top-1 | 95 % interval |", "| --- | --- | --- |"]
    for method, name in METHODS.items():
        correct, total, (low, high) = (figures[method][key] for key in ("correct", "total", "interval"))
        rows.append(f"| {name} | {correct / total:.3f} ({correct} of {total}) | {low:.3f} to {high:.3f} |")
    return "\n".join(rows)


def compare_labels(figures: dict[str, dict]) -> str:
    """The share of each label's files that is right, a column for each method."""
    own, baseline = (figures[method]["by_label"] for method in METHODS)
    rows = ["| label | this checkpoint | baseline |", "| --- | --- | --- |"]
    return "\n".join([*rows, *(f"| {label} | {own[label]:.2f} | {baseline[label]:.2f} |" for label in own)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=DEFAULT_CHECKPOINT, help="folder; the package's own")
    args = parser.parse_args()
    build_card(args.checkpoint).save(args.checkpoint / "README.md")
    print(args.checkpoint / "README.md")


if __name__ == "__main__":
    main()
