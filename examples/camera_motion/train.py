"""Trains the camera-motion checkpoint from nothing, on video rendered from photographs.

    python examples/camera_motion/train.py --photos ../shared/photos --output runs/camera_motion

A worker process renders clips into a replay buffer; each clip is used several times, under the exact symmetries of
the task (mirrors, transposition, time reversal). A space-time transformer that learns camera motion from labels alone
soon knows a motion's axis, but for thousands of steps not its direction. What gets it past that plateau in minutes:

- It starts with what makes motion easy to see: the patch embedding holds the whitened principal components of the
  photographs' patches, the time table sinusoids, and heads of the first temporal step look one frame ahead and one
  back, so that differences of neighboring frames stand beside the frame. Every other residual branch starts at zero.
- The renderer knows the image motion at every patch, and throw-away linear heads learn it beside the label.
- A first stage learns the motion of single patches with the attention frozen. The patches of one clip move alike, so
  a batch of whole clips holds too few different motions to start on.
- The second stage learns everything on whole clips, from blurred photographs and clean movements to the full mixture.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from clips import (
    DIRECTION_PAIRS,
    FRAME_INTERVAL_SECONDS,
    NUM_FRAMES,
    ClipBatch,
    ReplayBuffer,
    random_patches,
    random_symmetries,
    render_clips,
)
from rendering import LABELS, split_photographs
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.training.recipe import average_weights, parameter_groups

CLIPS_PER_VIDEO = 6
MEAN, STD = 0.45, 0.225
FLOW_UNIT = 0.04  # short sides a step; brings the flow targets to about one


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (…) → float as the processor's rescaling and normalization."""
    return (pixels.float() / 255 - MEAN) / STD


# Model


class CameraMotionTrainer(nn.Module):
    """The classifier with the two throw-away heads that learn the image motion."""

    def __init__(self, classifier: FALVideoClassifierForVideoClassification):
        super().__init__()
        self.classifier, self.config = classifier, classifier.config
        width = classifier.config.hidden_size
        self.patch_motion = nn.Linear(width, 2)
        self.clip_motion = nn.Linear(width, 6)
        for head in (self.patch_motion, self.clip_motion):
            nn.init.zeros_(head.weight)

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (B, 10), patch motion (B, T·h·w, 2) and clip motion (B, 6)."""
        tokens = self.classifier.fal(pixel_values).last_hidden_state
        cls, patches = tokens[:, 0], tokens[:, 1:]
        return self.classifier.classifier(cls), self.patch_motion(patches), self.clip_motion(cls)

    def single_patch_motion(self, pixel_values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Motion (B, T, 2) of one patch a clip, from it alone: pixels (B, T, 3, P, P), place (B,) in the table.

        The patches of one clip move alike, so that a batch of whole clips holds few different motions. For the same
        number of tokens, single patches of many clips hold many.
        """
        fal = self.classifier.fal
        tables = fal.embeddings.position_embeddings
        cls = (fal.embeddings.cls_token + tables[:, :1]).expand(len(places), -1, -1)
        patches = fal.embeddings.patch_embeddings(pixel_values).flatten(1, 3)
        patches = patches + tables[0, 1 + places][:, None] + fal.embeddings.time_embeddings
        tokens = torch.cat([cls, patches], 1)
        for layer in fal.layers:
            tokens = layer(tokens, (NUM_FRAMES, 1, 1))
        return self.patch_motion(fal.layernorm(tokens)[:, 1:])


def clip_motion_targets(flow: torch.Tensor) -> torch.Tensor:
    """Mean x and y motion, divergence, curl, and the spread of x and y motion over time, of flow (B, T, h, w, 2)."""
    grid = flow.shape[2]
    axis = (torch.arange(grid, device=flow.device) + 0.5) / grid - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    u, v = flow.unbind(-1)
    radius = (x**2 + y**2).mean()
    divergence = (u * x + v * y).mean((1, 2, 3)) / radius / 4
    curl = (v * x - u * y).mean((1, 2, 3)) / radius / 4
    steps = flow.mean((2, 3))[:, :-1]
    return torch.cat([steps.mean(1), divergence[:, None], curl[:, None], steps.std(1)], -1)


def build_model(args: argparse.Namespace) -> FALVideoClassifierForVideoClassification:
    """A small FAL with random weights."""
    config = FALConfig(
        image_size=args.image_size,
        patch_size=args.patch_size,
        num_frames=NUM_FRAMES,
        hidden_size=args.hidden_size,
        num_hidden_layers=args.num_layers,
        num_attention_heads=args.num_heads,
        intermediate_size=args.mlp_ratio * args.hidden_size,
        initializer_range=args.hidden_size**-0.5 * 0.7,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    return FALVideoClassifierForVideoClassification(config)


def sinusoids(count: int, width: int) -> torch.Tensor:
    """A (count, width) table of sines and cosines whose rows are most like themselves, less like the next."""
    frequencies = torch.arange(1, width // 2 + 1) / (1.5 * count)
    angles = 2 * math.pi * torch.arange(count)[:, None] * frequencies % (2 * math.pi)
    return torch.cat([angles.sin(), angles.cos()], -1)


@torch.no_grad()
def start_from_statistics(model: FALVideoClassifierForVideoClassification, pixels: torch.Tensor):
    """Gives the model a start from which motion is easy to see.

    A quarter of the width each holds a patch's content x(t), x(t+1) − x(t), x(t−1) − x(t), and its time and place.
    The content is the whitened principal components of the patches of `pixels` (N, T, 3, S, S); the first three heads
    of the first temporal step look one frame ahead, one frame back and at the frame itself. All of it is learnt on.
    """
    quarter = model.config.hidden_size // 4
    embeddings = model.fal.embeddings
    weight, bias = whitened_components(normalize(pixels), model.config.patch_size, quarter)
    linear = embeddings.patch_embeddings.projection
    linear.weight.mul_(0.1)[:quarter] = weight
    linear.bias[:quarter] = bias
    grid = model.config.grid_size[1]
    place, half = sinusoids(grid, quarter // 4), quarter // 2
    rows, columns = place[:, None].expand(-1, grid, -1), place[None].expand(grid, -1, -1)
    embeddings.position_embeddings[:, 1:, -half:] = torch.cat([rows, columns], -1).reshape(1, grid * grid, half)
    times = sinusoids(NUM_FRAMES, half)
    embeddings.time_embeddings[:, :, 3 * quarter : 3 * quarter + half] = times
    look_at_neighboring_frames(model.fal.layers[0].steps["temporal"], quarter)
    for index, layer in enumerate(model.fal.layers):
        nn.init.zeros_(layer.steps["main"].attention.o_proj.weight)
        nn.init.zeros_(layer.mlp.fc2.weight)
        if index:
            nn.init.eye_(layer.steps["temporal"].dense.weight)
            nn.init.zeros_(layer.steps["temporal"].attention.o_proj.weight)


def whitened_components(pixels: torch.Tensor, patch_size: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a Linear to the first principal components of patches, with unit variance."""
    patches = F.unfold(pixels.flatten(0, 1), patch_size, stride=patch_size).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(0)
    variances, components = torch.linalg.eigh(torch.cov((patches - mean).T))
    weight = (components / variances.clamp(min=1e-6).sqrt()).flip(1)[:, :count].T
    return weight, -weight @ mean


def look_at_neighboring_frames(step: nn.Module, quarter: int):
    """Lets three heads attend to the next frame, the one before and the frame itself: the differences."""
    width, half = 4 * quarter, quarter // 2
    attention = step.attention
    head_width = width // attention.num_heads
    query, key, value = attention.qkv.weight.view(3, width, width)
    output = attention.o_proj.weight
    output.zero_()
    frequencies = torch.arange(1, half // 2 + 1) / (1.5 * NUM_FRAMES)
    time = slice(3 * quarter, 3 * quarter + half)
    for head, shift in enumerate((1, -1, 0)):
        rows = slice(head * head_width, head * head_width + half)
        head_rows = slice(head * head_width, (head + 1) * head_width)
        query[head_rows], key[head_rows], value[head_rows] = 0, 0, 0
        cos, sin = (torch.diag(f(2 * math.pi * shift * frequencies)) for f in (torch.cos, torch.sin))
        query[rows, time] = 2.0 * torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)])
        key[rows, time] = 2.0 * torch.eye(half)
        value[head_rows, :quarter] = torch.eye(head_width, quarter)
        output[:, head_rows] = 0
        copied = torch.eye(quarter, head_width)
        if shift:
            output[(head + 1) * quarter : (head + 2) * quarter, head_rows] = copied
        else:
            output[quarter : 3 * quarter, head_rows] = torch.cat([-copied, -copied])
    nn.init.eye_(step.dense.weight)


# Training


def motion_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Smooth L1 of a motion in `FLOW_UNIT`s; nearly L1, so that slow motions count too."""
    return F.smooth_l1_loss(prediction, target / FLOW_UNIT, beta=0.1)


def training_loss(
    model: nn.Module, clips: ClipBatch, *, motion_weight: float
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of one batch, and its parts for the log."""
    logits, patch_motion, clip_motion = model(normalize(clips.pixels))
    label_loss = F.cross_entropy(logits, clips.labels, label_smoothing=0.05)
    patch_loss = motion_loss(patch_motion, clips.flow.flatten(1, 3))
    clip_loss = motion_loss(clip_motion, clip_motion_targets(clips.flow))
    accuracy = (logits.argmax(-1) == clips.labels).float().mean()
    parts = {"label_loss": label_loss, "patch_loss": patch_loss, "clip_loss": clip_loss, "accuracy": accuracy}
    loss = label_loss + motion_weight * (2 * patch_loss + clip_loss)
    return loss, {name: part.item() for name, part in parts.items()}


@torch.no_grad()
def predict(classifier: FALVideoClassifierForVideoClassification, pixels: torch.Tensor) -> torch.Tensor:
    """Label indices (N,) of clips of uint8 pixels (N, T, 3, S, S)."""
    batches = (normalize(batch.to(classifier.device)) for batch in pixels.split(50))
    return torch.cat([classifier(pixel_values=batch).logits.argmax(-1).cpu() for batch in batches])


def accuracies(labels: torch.Tensor, predictions: torch.Tensor) -> dict[str, float]:
    """Top-1, and for each pair of directions how often the direction is right where the axis is."""
    result = {"top1": (labels == predictions).float().mean().item()}
    for pair in DIRECTION_PAIRS:
        pair_indices = torch.tensor([LABELS.index(label) for label in pair])
        on_axis = torch.isin(labels, pair_indices) & torch.isin(predictions, pair_indices)
        correct = (labels == predictions)[on_axis].float()
        result["/".join(pair)] = correct.mean().item() if len(correct) else float("nan")
    return result


def print_confusion(labels: torch.Tensor, predictions: torch.Tensor):
    """Prints the confusion matrix: a row for each true label, a column for each predicted one."""
    matrix = confusion_matrix(labels, predictions, labels=range(len(LABELS)))
    print(f"{'true / predicted':>22}", *(f"{label[:6]:>6}" for label in LABELS))
    for label, row in zip(LABELS, matrix, strict=True):
        print(f"{label:>22}", *(f"{count:6d}" for count in row))


class Run:
    """Everything of one training run that a checkpoint holds, and its log."""

    def __init__(self, args: argparse.Namespace, classifier: FALVideoClassifierForVideoClassification):
        self.args, self.step, self.parts = args, 0, {}
        self.accelerator = Accelerator(step_scheduler_with_optimizer=False)
        model = CameraMotionTrainer(classifier)
        groups = parameter_groups(model, learning_rate=args.learning_rate, weight_decay=args.weight_decay)
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
        self.average = average_weights(classifier, args.average_decay, warms_up=True)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.accelerator.register_for_checkpointing(self)
        self.output = Path(args.output)
        self.output.mkdir(parents=True, exist_ok=True)

    @property
    def trainer(self) -> CameraMotionTrainer:
        return self.accelerator.unwrap_model(self.model)

    @property
    def classifier(self) -> FALVideoClassifierForVideoClassification:
        return self.trainer.classifier

    def state_dict(self) -> dict:
        return {"step": self.step, "average": self.average.state_dict()}

    def load_state_dict(self, state: dict):
        self.step = state["step"]
        self.average.load_state_dict(state["average"])

    def averaged_classifier(self) -> FALVideoClassifierForVideoClassification:
        """A copy of the classifier with the averaged weights."""
        classifier = FALVideoClassifierForVideoClassification(self.classifier.config)
        classifier.load_state_dict(self.average.module.state_dict())
        return classifier.to(self.accelerator.device).eval()

    def save(self):
        """Writes the state to resume from, and the averaged weights as the checkpoint to use."""
        self.accelerator.save_state(str(self.output / "state"))
        self.averaged_classifier().save_pretrained(self.output / "model")
        FALVideoProcessor(
            size={"shortest_edge": self.args.image_size},
            crop_size={"height": self.args.image_size, "width": self.args.image_size},
            num_frames=NUM_FRAMES,
            frame_interval_seconds=FRAME_INTERVAL_SECONDS,
            num_clips=CLIPS_PER_VIDEO,
        ).save_pretrained(self.output / "model")

    def gather(self, parts: dict[str, float]):
        """Keeps the parts of a step's loss for `means`."""
        for name, value in parts.items():
            self.parts.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        """The means of what was gathered since the last call."""
        means = {name: float(np.mean(values)) for name, values in self.parts.items()}
        self.parts.clear()
        return means

    def log(self, **values):
        """Prints one line and appends it to `log.jsonl`."""
        rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
        tqdm.write(json.dumps(rounded))
        with (self.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(rounded) + "\n")


def schedule(args: argparse.Namespace, step: int) -> dict[str, float]:
    """Learning rate, difficulty of the rendered clips and weight of the motion losses at one step."""
    if step < args.patch_steps:
        warm_up = min(1.0, (step + 1) / 30)
        return {"learning_rate": args.patch_learning_rate * warm_up, "difficulty": 0.3, "motion_weight": 1.0}
    progress = (step - args.patch_steps) / (args.steps - args.patch_steps)
    warm_up = min(1.0, (step - args.patch_steps + 1) / args.warm_up_steps)
    cosine = 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * progress))
    return {
        "learning_rate": args.learning_rate * warm_up * cosine,
        "difficulty": min(1.0, 0.3 + progress / 0.4) + min(1.0, max(0.0, (progress - 0.5) / 0.2)),
        "motion_weight": 1.5 - progress,
    }


def freeze_attention(model: CameraMotionTrainer, frozen: bool):
    """Keeps the embedding and the attention as they start, so that what they prepare is not lost in early noise."""
    for name, parameter in model.named_parameters():
        learns_alone = ".mlp." in name or "_motion." in name or name.startswith("classifier.fal.layernorm")
        parameter.requires_grad_(learns_alone or not frozen)


def patch_stage_loss(run: Run, clips: ReplayBuffer) -> tuple[torch.Tensor, dict[str, float]]:
    """The first stage's loss, of the motion of a patch of each clip; and the loss of predicting no motion."""
    batch = random_symmetries(clips.sample(run.args.patch_batch_size))
    pixels, places, motion = random_patches(batch, run.args.patch_size)
    pixels, places, motion = (part.to(run.accelerator.device) for part in (pixels, places, motion))
    loss = motion_loss(run.trainer.single_patch_motion(normalize(pixels), places), motion)
    return loss, {"patch_loss": loss.item(), "still_loss": motion_loss(0 * motion, motion).item()}


def step_loss(run: Run, clips: ReplayBuffer, motion_weight: float) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss of one training step in whichever stage the run is."""
    if run.step < run.args.patch_steps:
        return patch_stage_loss(run, clips)
    batch = random_symmetries(clips.sample(run.args.batch_size)).to(run.accelerator.device)
    return training_loss(run.model, batch, motion_weight=motion_weight)


def update(run: Run, clips: ReplayBuffer, *, learning_rate: float, motion_weight: float):
    """One step of the optimizer."""
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate
    loss, parts = step_loss(run, clips, motion_weight)
    run.accelerator.backward(loss)
    run.accelerator.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.average.update_parameters(run.classifier)
    run.step += 1
    run.gather(parts)


def train(run: Run, clips: ReplayBuffer, validation: ClipBatch):
    """Trains from `run.step` to the last step."""
    args = run.args
    bar = tqdm(total=args.steps, initial=run.step, desc="training", unit="step", mininterval=10)
    started, first_step = time.perf_counter(), run.step
    run.model.train()
    while run.step < args.steps:
        freeze_attention(run.trainer, run.step < args.patch_steps)
        now = schedule(args, run.step)
        clips.difficulty.value = now.pop("difficulty")
        clips.receive(at_least=clips.first_needed + int((run.step - first_step) * args.batch_size / args.reuse))
        update(run, clips, **now)
        bar.update()
        if run.step % args.log_every == 0:
            seconds = time.perf_counter() - started
            rate = (run.step - first_step) / seconds
            progress = {"step": run.step, "seconds": seconds, "steps_per_second": rate, "rendered": clips.received}
            run.log(**progress, **now, **run.means())
        if run.step % args.evaluate_every == 0 and run.step > args.patch_steps:
            predictions = predict(run.averaged_classifier(), validation.pixels)
            run.log(step=run.step, **accuracies(validation.labels, predictions))
        if run.step % args.checkpoint_every == 0 or run.step == args.steps:
            run.save()
    bar.close()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"), help="folder of photographs")
    parser.add_argument("--output", type=Path, default=Path("runs/camera_motion"))
    parser.add_argument("--resume", action="store_true", help="go on from the state in --output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validation-photos", type=int, default=100)
    parser.add_argument("--test-photos", type=int, default=200)
    parser.add_argument("--evaluation-clips", type=int, default=300)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--num-layers", type=int, default=4)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--mlp-ratio", type=int, default=2)
    parser.add_argument("--patch-steps", type=int, default=400, help="steps of the first stage, on single patches")
    parser.add_argument("--patch-batch-size", type=int, default=256)
    parser.add_argument("--patch-learning-rate", type=float, default=3e-3)
    parser.add_argument("--steps", type=int, default=4000, help="steps of both stages")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--warm-up-steps", type=int, default=100)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--average-decay", type=float, default=0.998, help="of the moving average of the weights")
    parser.add_argument("--buffer-clips", type=int, default=4000)
    parser.add_argument("--reuse", type=float, default=8, help="batches that a rendered clip appears in, on average")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the training process")
    parser.add_argument("--log-every", type=int, default=25)
    parser.add_argument("--evaluate-every", type=int, default=200)
    parser.add_argument("--checkpoint-every", type=int, default=250)
    args = parser.parse_args()
    if not 0 < args.average_decay < 1:
        parser.error(f"--average-decay: expected a share in (0, 1), got {args.average_decay}")
    return args


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    set_seed(args.seed)
    photos = split_photographs(args.photos, validation=args.validation_photos, test=args.test_photos)
    sizes = {"image_size": args.image_size, "grid": args.image_size // args.patch_size}
    run = Run(args, build_model(args))
    if args.resume:
        run.accelerator.load_state(str(args.output / "state"))
    seed = args.seed + 1 + run.step  # a resumed run renders other clips than those it has seen
    clips = ReplayBuffer(photos["train"], capacity=args.buffer_clips, seed=seed, workers=args.workers, **sizes)
    rng = np.random.default_rng(args.seed + 1000)
    validation = render_clips(rng, photos["validation"], args.evaluation_clips, difficulty=1.0, **sizes)
    clips.receive(at_least=clips.first_needed)
    if not args.resume:
        start_from_statistics(run.classifier, clips.sample(min(200, clips.filled)).pixels)
    run.log(parameters=run.classifier.num_parameters(), **{name: str(value) for name, value in vars(args).items()})
    train(run, clips, validation)
    clips.close()
    test = render_clips(rng, photos["test"], 2 * args.evaluation_clips, difficulty=1.0, **sizes)
    predictions = predict(run.averaged_classifier(), test.pixels)
    run.log(split="test", **accuracies(test.labels, predictions))
    print_confusion(test.labels, predictions)


if __name__ == "__main__":
    main()
