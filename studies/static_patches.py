"""What leaving out patches that do not change costs and saves in joint attention: tokens, operations, time, accuracy.

    python studies/static_patches.py ../shared/media/surveillance

The built-in checkpoint without its temporal steps, so with joint attention, is trained with all patches on clips of
surveillance cameras of 224 x 224 pixels. That model then labels the test clips at several thresholds, for none of
which it was trained: how often it is right, and how often it says what it says of all patches. Tokens, operations and
processor time are means over one view of each test clip; the times of all rows are taken clip by clip.

One model of one seed, with the 95 % interval of Wilson over the test clips. A trained model is kept in the folder.
"""

import argparse
import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from adaptive_patches import VIEWS, Case, describe_machine, find_surveillance, train
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from fal_hf import AdaptivePatches, FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT
from fal_hf.model.modeling_fal import run_layers
from fal_hf.training import DataArguments, EvaluationArguments, EvaluationReport
from fal_hf.training import evaluate as evaluate_model
from fal_hf.training.result import RESULT_FOLDER
from fal_hf.training.run import MANIFEST_NAME

# None: the uniform layout, which compares nothing.
THRESHOLDS = (None, 0.0, 0.05, 0.1, 0.2)
COLUMNS = ("threshold", "tokens kept", "GFLOP", "processor time", "accuracy", "95 % interval", "as with all patches")


def train_joint(folder: Path, data: DataArguments, *, epochs: float) -> None:
    """Trains a model with joint attention, to `folder`/model, where it is not there yet."""
    if (folder / RESULT_FOLDER).exists():
        return
    start = folder / "joint"
    config = FALConfig.from_pretrained(DEFAULT_CHECKPOINT, attention_type="joint_space_time")
    FALVideoClassifierForVideoClassification.from_pretrained(DEFAULT_CHECKPOINT, config=config).save_pretrained(start)
    FALVideoProcessor.from_pretrained(DEFAULT_CHECKPOINT).save_pretrained(start)
    train(folder, data, Case(), start, epochs=epochs, num_clips=VIEWS["surveillance"])


def evaluate(folder: Path, threshold: float | None) -> EvaluationReport:
    """What the model says of the test clips at a threshold."""
    arguments = EvaluationArguments(
        model_name_or_path=str(folder / RESULT_FOLDER),
        num_clips=[VIEWS["surveillance"]],
        static_patches=threshold,
        output_dir=str(folder / f"threshold_{threshold}"),
        device="cpu",
    )
    return evaluate_model(data=DataArguments(train_file=str(folder / MANIFEST_NAME)), evaluation=arguments)


def count_gflop(config: FALConfig, num_tokens: int) -> float:
    """Operations in 10⁹ of a clip that keeps so many patches: of the embeddings, of all patches, and the blocks."""
    frames, rows, columns = config.grid_size
    with torch.device("meta"):
        model = FALVideoClassifierForVideoClassification._from_config(config, attn_implementation="eager").eval().fal
        clip = torch.empty(1, frames, 3, rows * config.patch_size, columns * config.patch_size)
        tokens = torch.empty(1, 1 + num_tokens, config.hidden_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.embeddings(clip)
        run_layers(list(model.layers), tokens, (1, 1, num_tokens), cls_only=True)
    return counter.get_total_flops() / 1e9


@torch.inference_mode()
def measure(folder: Path, paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens beside CLS and the processor seconds of each clip at each threshold, `(clips, thresholds)` both."""
    model = FALVideoClassifierForVideoClassification.from_pretrained(folder / RESULT_FOLDER).eval()
    processor = FALVideoProcessor.from_pretrained(folder / RESULT_FOLDER)
    tokens, seconds = (np.zeros((len(paths), len(THRESHOLDS))) for _ in range(2))
    for row, path in enumerate(tqdm(paths, desc="measuring", disable=None)):
        clip = processor(path, return_tensors="pt")["pixel_values"]
        for column, threshold in enumerate(THRESHOLDS):
            model.adapt_patches(None if threshold is None else AdaptivePatches(static_threshold=threshold))
            tokens[row, column] = model.fal(clip).last_hidden_state.shape[1] - 1
            start = time.process_time()
            model(clip)
            seconds[row, column] = time.process_time() - start
    return tokens, seconds


def make_rows(
    config: FALConfig, reports: list[EvaluationReport], tokens: np.ndarray, seconds: np.ndarray
) -> list[str]:
    """The rows of the table."""
    rows, said = [], [[one.labels for one in report.predictions] for report in reports]
    for column, (threshold, report) in enumerate(zip(THRESHOLDS, reports, strict=True)):
        figures, counts = report.results[0], tokens[:, column]
        low, high = figures["accuracy_interval"]
        gflop = np.mean([count_gflop(config, int(count)) for count in counts])
        time_share = seconds[:, column].sum() / seconds[:, 0].sum()
        alike = np.mean([one == other for one, other in zip(said[column], said[0], strict=True)])
        cells = [
            "uniform" if threshold is None else f"{threshold:g}",
            f"{counts.mean():.0f} ({counts.min():.0f} to {counts.max():.0f})",
            f"{gflop:.2f}",
            f"{100 * time_share:.0f} %",
            f"{100 * figures['accuracy']:.1f} %",
            f"{100 * low:.1f} to {100 * high:.1f}",
            f"{100 * alike:.1f} %",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of surveillance clips")
    parser.add_argument("--folder", type=Path, default=Path("runs/static_patches"), help="where the model is kept")
    parser.add_argument("--epochs", type=float, default=4, help="of the training")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with redirect_stdout(sys.stderr):  # what Trainer prints; the table alone goes to standard output
        train_joint(args.folder, find_surveillance(args), epochs=args.epochs)
        reports = [evaluate(args.folder, threshold) for threshold in THRESHOLDS]
    clips = [json.loads(line) for line in (args.folder / MANIFEST_NAME).read_text().splitlines()]
    tokens, seconds = measure(args.folder, [clip["path"] for clip in clips if clip["split"] == "test"])
    print(describe_machine())
    print(f"{len(clips) - len(tokens)} training and {len(tokens)} test clips; {args.epochs:g} epochs\n")
    print("| " + " | ".join(COLUMNS) + " |\n" + "| --- " * len(COLUMNS) + "|")
    config = FALConfig.from_pretrained(args.folder / RESULT_FOLDER)
    print("\n".join(make_rows(config, reports, tokens, seconds)))


if __name__ == "__main__":
    main()
