"""How the studies train their small models."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from data_sets import DATA_SETS, FRAME_INTERVAL_SECONDS, NUM_FRAMES, make_clips, with_share
from small_cnn import NETWORKS, VideoNetwork, count_gflop
from study import Setting, Value, current_commit
from transformers import TrainingArguments

from fal_hf import FALConfig, FALVideoClassifierForVideoClassification, FALVideoProcessor
from fal_hf.training import AugmentationArguments, DataArguments, ModelArguments
from fal_hf.training.arguments import Arguments
from fal_hf.training.result import TrainingResult
from fal_hf.training.run import prepare_run
from fal_hf.training.trainer import ClipTrainer, fit

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
    arguments = arguments_of(
        output_dir, data, model, epochs=epochs, seed=seed, use_cpu=use_cpu, learning_rate=learning_rate
    )
    return fit(prepare_run(arguments)), time.perf_counter() - start


def arguments_of(
    output_dir: Path,
    data: DataArguments,
    model: ModelArguments,
    *,
    epochs: float,
    seed: int,
    use_cpu: bool = True,
    learning_rate: float = 2e-3,
) -> Arguments:
    """The recipe of the small models."""
    return Arguments(
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
    changes = changes or {}
    folder = files / "-".join([name, setting, *map(str, changes.values()), str(seed)])
    config = small_config(name, **changes)
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


@dataclass(frozen=True, kw_only=True)
class Trained:
    """
    What a training that saves nothing has made.

    Args:
        figures: Of the test clips, as `TrainingResult` has them.
        num_clips: How many it was trained on.
        num_parameters: Of the model.
        gflop: 10⁹ operations of a clip.
        processor_seconds: Of the training by itself, reading of clips included.
    """

    figures: Mapping[str, float]
    num_clips: int
    num_parameters: int
    gflop: float
    processor_seconds: float


def train_network(kind: str, name: str, files: Path, setting: Setting, *, seed: int, percent: int = 100) -> Trained:
    """
    Trains FAL, or another network in its place, from nothing on a data set, on the CPU: on the same clips in the same
    order, changed alike, by the same recipe. Studies share what they have trained with the same commit.

    Args:
        kind: What is trained, of `NETWORKS`.
        name: Of the data set.
        files: The folder of the study.
        seed: Of the first weights and of the order of clips.
        percent: The share of the training clips.
    """
    commit = current_commit()
    folder = files.parent / "networks" / commit / f"{name}-{setting}-{kind}-{percent}-{seed}"
    result = folder / "trained.json"
    if result.exists() and commit.isalnum():  # not where files differ from the commit, or none is known
        return Trained(**json.loads(result.read_text()))
    write_start(folder / "start", small_config(name), seed=seed)
    data = with_share(make_clips(files, setting, name), folder / "clips.jsonl", percent=percent, seed=seed)
    model = model_arguments(name, folder / "start")
    run = prepare_run(arguments_of(folder / "run", data, model, epochs=EPOCHS[setting], seed=seed))
    config: FALConfig = run.model.config
    network = NETWORKS[kind]
    if network is not None:
        torch.manual_seed(seed)
        run = replace(run, model=VideoNetwork(network, config))
    trainer = ClipTrainer(run)
    start = time.process_time()
    trainer.train()
    trained = Trained(
        processor_seconds=time.process_time() - start,
        figures=trainer.evaluate_splits()["test"],
        num_clips=len(run.training_clips),
        num_parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        gflop=count_gflop(network, config),
    )
    result.write_text(json.dumps(asdict(trained)))
    return trained


def small_config(name: str, **changes: Value) -> FALConfig:
    """Of a small model for the clips of a data set."""
    fields = {**SMALL, "num_frames": NUM_FRAMES, "image_size": DATA_SETS[name].side, **changes}
    return FALConfig.from_preset("fal-small", **fields)


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
