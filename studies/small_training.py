"""How the studies train their small models."""

import time
from collections.abc import Mapping
from pathlib import Path

import torch
from data_sets import DATA_SETS, FRAME_INTERVAL_SECONDS, NUM_FRAMES, make_clips
from study import Setting, Value
from transformers import TrainingArguments

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.training import AugmentationArguments, DataArguments, ModelArguments, train
from fal_hf.training.result import TrainingResult

# A model that learns the order of frames in a minute of one core.
SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "patch_size": 8,
    "initializer_range": 0.15,
}
# Of the tables of positions and times: where they start small, models of this size stay on the plateau on which frames
# are a set, and left is right.
TABLE_DEVIATION = 1.0
EPOCHS = {"toy": 1, "small": 20, "full": 40}


def train_small(
    output_dir: Path,
    data: DataArguments,
    model: ModelArguments,
    *,
    epochs: float,
    seed: int,
    use_cpu: bool,
    learning_rate: float = 2e-3,
) -> tuple[TrainingResult, float]:
    """Trains one model on clips of its own size; returns the result, and the seconds that took."""
    start = time.perf_counter()
    result = train(
        data=data,
        model=model,
        augmentation=AugmentationArguments(short_side_min=model.image_size, short_side_max=model.image_size),
        training=TrainingArguments(
            output_dir=str(output_dir),
            num_train_epochs=epochs,
            per_device_train_batch_size=16,
            learning_rate=learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.05,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            seed=seed,
            disable_tqdm=True,
            use_cpu=use_cpu,
        ),
    )
    return result, time.perf_counter() - start


def train_on(
    name: str,
    files: Path,
    setting: Setting,
    *,
    seed: int,
    changes: Mapping[str, Value] | None = None,
    data: DataArguments | None = None,
) -> TrainingResult:
    """
    Trains a small model from nothing on a data set, on the CPU.

    Args:
        name: Of the data set.
        files: The folder of the study.
        seed: Of the model's first weights and of the order of clips.
        changes: The fields of the configuration that differ from `SMALL`.
        data: Its clips, where they are not those of `make_clips`.
    """
    data_set, changes = DATA_SETS[name], changes or {}
    folder = files / "-".join([name, setting, *map(str, changes.values()), str(seed)])
    fields = {**SMALL, "num_frames": NUM_FRAMES, **changes}
    config = FALConfig.from_preset("fal-small", **fields, image_size=data_set.side)
    write_start(folder / "start", config, seed=seed)
    result, _ = train_small(
        folder,
        data or make_clips(files, setting, name),
        model_arguments(name, folder / "start", num_frames=config.num_frames),
        epochs=EPOCHS[setting],
        seed=seed,
        use_cpu=True,
    )
    return result


def model_arguments(name: str, start: Path, *, num_frames: int = NUM_FRAMES) -> ModelArguments:
    """A model that starts from a folder and sees the clips of a data set, so many frames of each."""
    data_set = DATA_SETS[name]
    return ModelArguments(
        model_name_or_path=str(start),
        num_frames=num_frames,
        image_size=data_set.side,
        frame_interval_seconds=FRAME_INTERVAL_SECONDS,
        eval_num_clips=data_set.num_views,
    )


def write_start(folder: Path, config: FALConfig, *, seed: int) -> None:
    """Writes a model that has learned nothing, with its processor."""
    torch.manual_seed(seed)
    model = FALVideoClassifierForVideoClassification(config)
    tables = model.fal.embeddings
    for table in (tables.position_embeddings, tables.time_embeddings):
        if table is not None:
            torch.nn.init.normal_(table, std=TABLE_DEVIATION)
    model.save_pretrained(folder)
    side = config.image_size
    processor = FALVideoProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor.save_pretrained(folder)
