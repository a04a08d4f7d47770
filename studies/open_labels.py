"""Labels in words that training never saw together: camera motion, named by text alone.

    python studies/open_labels.py --photos ../shared/photos --folder runs/open_labels

A camera pans, tilts, zooms or rolls over a photograph, one way or the other, slowly or quickly, or does two of these
at once: 64 descriptions such as "the camera pans left while zooming in slowly". A small FAL that starts from the
package's camera-motion checkpoint and a small text tower are trained together on 40 of them, so that a clip's
embedding is like that of the words that describe it. Of the other 24, half join directions that training never saw
together, half a speed with directions that it never saw at that speed. The trained model then gets other labels by
`set_labels`, and is tested on photographs that training never saw. Beside it stand models with a fixed head: one
trained on the same 40 descriptions, which cannot say any other, and one trained on all 64.

Each row is a mean over seeds, with the 95 % interval of Student's t. What a seed has come to is kept in the folder:
the same command goes on where it was stopped.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
from intervals import half_interval
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from tqdm import trange
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
)
from transformers.utils import logging

from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.labeling.labeler import DEFAULT_CHECKPOINT
from fal_hf.model.text_encoder import TextEncoder

NUM_FRAMES, SIDE, INTERVAL_SECONDS = 8, 64, 0.125
# What the camera does, the verb that says so, its gerund, and the two directions.
MOVES = {
    "pan": ("pans", "panning", ("left", "right")),
    "tilt": ("tilts", "tilting", ("up", "down")),
    "zoom": ("zooms", "zooming", ("in", "out")),
    "roll": ("rolls", "rolling", ("clockwise", "counterclockwise")),
}
# Frame sides a second for pan and tilt, the logarithm of the focal length for zoom, radians for roll.
SPEEDS = {
    "slowly": {"pan": (0.09, 0.17), "tilt": (0.09, 0.17), "zoom": (0.12, 0.22), "roll": (0.12, 0.22)},
    "quickly": {"pan": (0.35, 0.6), "tilt": (0.35, 0.6), "zoom": (0.45, 0.75), "roll": (0.5, 0.9)},
}
TEXT_WIDTH = 64
LEARNING_RATE = 5e-4
HELD_OUT_PHOTOS = 200


@dataclass(frozen=True)
class Description:
    """What the camera does: `moves` are pairs of a move and the number of its direction, both at one speed."""

    moves: tuple[tuple[str, int], ...]
    speed: str

    def phrases(self) -> list[str]:
        """Ways to say it; the first one is its label."""
        said = []
        for moves in (self.moves, self.moves[::-1]) if len(self.moves) > 1 else (self.moves,):
            verb, _, ways = MOVES[moves[0][0]]
            first = f"{verb} {ways[moves[0][1]]}"
            gerunds = " and ".join(f"{MOVES[move][1]} {MOVES[move][2][way]}" for move, way in moves)
            rest = "".join(f" while {MOVES[move][1]} {MOVES[move][2][way]}" for move, way in moves[1:])
            said += [f"the camera {first}{rest} {self.speed}", f"{self.speed} {gerunds}", f"{gerunds} {self.speed}"]
        return said


def list_descriptions() -> tuple[list[Description], list[Description], list[Description]]:
    """What training sees, and of the rest the ones whose directions it never sees together, then the others."""
    single = [Description(((move, way),), speed) for move in MOVES for way in range(2) for speed in SPEEDS]
    seen, new_pairs, new_speeds = single, [], []
    for number, (first, second) in enumerate(combinations(MOVES, 2)):
        for way, other in product(range(2), repeat=2):
            kind = (2 * way + other - number) % 4  # each pair of moves leaves others out
            for index, speed in enumerate(SPEEDS):
                one = Description(((first, way), (second, other)), speed)
                held_out = new_pairs if kind == 0 else new_speeds if kind == 1 + index else seen
                held_out.append(one)
    return seen, new_pairs, new_speeds


def render_clip(rng: np.random.Generator, photo: np.ndarray, description: Description) -> np.ndarray:
    """`(NUM_FRAMES, SIDE, SIDE, 3)` uint8: what a camera sees of a photograph that moves as the description says."""
    rates = dict.fromkeys(MOVES, 0.0)
    for move, way in description.moves:
        rates[move] = (-1, 1)[way] * rng.uniform(*SPEEDS[description.speed][move])
    view = rng.uniform(0.35, 0.5) * min(photo.shape[:2])  # pixels of the photograph that a frame's side shows
    size = np.array(photo.shape[1::-1])
    center, gain, frames = size / 2 + rng.uniform(-0.1, 0.1, 2) * size, rng.uniform(0.7, 1.3), []
    for time in INTERVAL_SECONDS * (np.arange(NUM_FRAMES) - (NUM_FRAMES - 1) / 2):
        scale, angle = view / SIDE * np.exp(rates["zoom"] * time), -rates["roll"] * time
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = center + view * time * np.array([rates["pan"], rates["tilt"]])
        matrix = np.column_stack([turn, middle - turn @ np.full(2, (SIDE - 1) / 2)])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frame = cv2.warpAffine(photo, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        frames.append(frame * gain + rng.normal(0, 4, frame.shape))
    return np.clip(frames, 0, 255).astype(np.uint8)


class Clips:
    """Clips rendered from photographs, ready for a model."""

    def __init__(self, photos: Sequence[Path], seed: int):
        self.photos = [self._load(path) for path in photos]
        self.rng = np.random.default_rng(seed)
        self.processor = FALVideoProcessor.from_pretrained(DEFAULT_CHECKPOINT)

    @staticmethod
    def _load(path: Path) -> np.ndarray:
        photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        return cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # about what a frame shows

    def draw(self, descriptions: Sequence[Description]) -> torch.Tensor:
        """One clip of each description, of any photograph: `(N, NUM_FRAMES, 3, SIDE, SIDE)` float32."""
        numbers = self.rng.integers(len(self.photos), size=len(descriptions))
        frames = np.stack(
            [render_clip(self.rng, self.photos[n], one) for n, one in zip(numbers, descriptions, strict=True)]
        )
        pixels = torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() * self.processor.rescale_factor
        center, deviation = (
            torch.tensor(value)[:, None, None] for value in (self.processor.image_mean, self.processor.image_std)
        )
        return (pixels - center) / deviation


def make_text_encoder(texts: Sequence[str]) -> TextEncoder:
    """A small text tower from nothing, and a tokenizer whose tokens are the words of some texts."""
    special = ["<pad>", "<unknown>", "<start>", "<end>"]
    words = [*special, *sorted({word for text in texts for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $0 <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<start>", eos_token="<end>", unk_token="<unknown>"
    )
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=24,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    return TextEncoder(CLIPTextModelWithProjection(config), fast)


def make_model(descriptions: Sequence[Description], *, is_open: bool) -> FALVideoClassifierForVideoClassification:
    """The camera-motion checkpoint with a new head, of labels to come or of these."""
    labels = [one.phrases()[0] for one in descriptions]
    head = {"classifier_type": "similarity", "label_embedding_size": TEXT_WIDTH} if is_open else {}
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    return FALVideoClassifierForVideoClassification.from_pretrained(
        DEFAULT_CHECKPOINT, **head, **names, ignore_mismatched_sizes=True
    )


def train(
    descriptions: Sequence[Description], clips: Clips, *, is_open: bool, steps: int, batch_size: int, seed: int
) -> FALVideoClassifierForVideoClassification:
    """Trains a model to tell descriptions apart; one that is open gets the text tower that was trained with it."""
    torch.manual_seed(seed)
    choices = random.Random(seed)
    model = make_model(descriptions, is_open=is_open).train()
    encoder = make_text_encoder([text for one in descriptions for text in one.phrases()]) if is_open else None
    groups = [{"params": model.parameters()}]
    if encoder is not None:
        encoder.model.train()
        groups.append({"params": encoder.model.parameters()})
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=0.05)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    for _ in (bar := trange(steps, desc="open" if is_open else "fixed", disable=None)):
        numbers = [choices.randrange(len(descriptions)) for _ in range(batch_size)]
        pixels = clips.draw([descriptions[number] for number in numbers])
        if encoder is None:
            logits = model(pixels).logits
        else:
            texts = [choices.choice(one.phrases()) for one in descriptions]
            inputs = encoder.tokenizer(texts, padding=True, return_tensors="pt")
            inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            logits = model.classifier(model.fal(pixels).pooler_output, encoder.model(**inputs).text_embeds)
        loss = F.cross_entropy(logits, torch.tensor(numbers))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([one for group in groups for one in group["params"]], 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
    if encoder is not None:
        model.text_encoder = TextEncoder(encoder.model, encoder.tokenizer)
        model.set_labels([one.phrases()[0] for one in descriptions], prompt="{}")
    return model.eval()


@torch.inference_mode()
def accuracy(
    model: FALVideoClassifierForVideoClassification,
    descriptions: Sequence[Description],
    choices: Sequence[Description],
    photos: Sequence[Path],
    *,
    clips_each: int,
) -> float:
    """The share of test clips of some descriptions that a model names rightly, of the choices that are its labels."""
    clips, right = Clips(photos, seed=1_000), 0
    targets = torch.tensor([choices.index(one) for one in descriptions])
    for _ in range(clips_each):
        right += (model(clips.draw(descriptions)).logits.argmax(dim=1) == targets).sum().item()
    return right / (clips_each * len(descriptions))


def measure(
    photos: Path, folder: Path, *, seed: int, steps: int, batch_size: int, clips_each: int
) -> list[dict[str, str | int | float]]:
    """The accuracies of the models of one seed, a row of the table each; kept in the folder."""
    kept = folder / f"seed-{seed}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    paths = sorted(photos.glob("*.jpg"))
    random.Random(0).shuffle(paths)
    training, test = paths[HELD_OUT_PHOTOS:], paths[:HELD_OUT_PHOTOS]
    seen, new_pairs, new_speeds = list_descriptions()
    unseen = [*new_pairs, *new_speeds]
    everything, rows = [*seen, *unseen], []
    options = {"steps": steps, "batch_size": batch_size, "seed": seed}

    def note(name: str, model: FALVideoClassifierForVideoClassification, choices: list[Description], **kinds):
        for kind, descriptions in kinds.items():
            share = accuracy(model, descriptions, choices, test, clips_each=clips_each)
            rows.append({"model": name, "clips": kind.replace("_", " "), "labels": len(choices), "top-1": share})

    model = train(seen, Clips(training, seed), is_open=True, **options)
    model.save_pretrained(folder / f"open-{seed}")
    model = FALVideoClassifierForVideoClassification.from_pretrained(folder / f"open-{seed}")
    note("words", model, seen, seen=seen)
    model.set_labels([one.phrases()[0] for one in unseen])
    note("words", model, unseen, unseen=unseen, new_pairs=new_pairs, new_speeds=new_speeds)
    model.set_labels([one.phrases()[0] for one in everything])
    note("words", model, everything, unseen=unseen, seen=seen)
    note("fixed head", train(seen, Clips(training, seed), is_open=False, **options), seen, seen=seen)
    model = train(everything, Clips(training, seed), is_open=False, **options)
    note("fixed head, trained on all", model, everything, unseen=unseen, seen=seen)
    kept.write_text(json.dumps(rows))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs (.jpg)")
    parser.add_argument("--folder", type=Path, default=Path("runs/open_labels"), help="where models are kept")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--clips-each", type=int, default=20, help="test clips of each description")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    logging.set_verbosity_error()
    args.folder.mkdir(parents=True, exist_ok=True)
    options = {"steps": args.steps, "batch_size": args.batch_size, "clips_each": args.clips_each}
    runs = [measure(args.photos, args.folder, seed=seed, **options) for seed in range(args.seeds)]
    print("| model | clips | labels to choose from | top-1 | 95 % interval |", "| --- " * 5 + "|", sep="\n")
    for rows in zip(*runs, strict=True):
        shares = [row["top-1"] for row in rows]
        share, reach = mean(shares), half_interval(shares)
        name, kind, count = (rows[0][key] for key in ("model", "clips", "labels"))
        print(
            f"| {name} | {kind} | {count} | {share:.3f} | {max(share - reach, 0):.3f} to {min(share + reach, 1):.3f} |"
        )


if __name__ == "__main__":
    main()
