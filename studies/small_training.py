"""How the studies train their small models, and how sure a mean over seeds is."""

import time
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import sem, t
from transformers import TrainingArguments

from fal_hf.training import AugmentationArguments, DataArguments, ModelArguments, train
from fal_hf.training.result import TrainingResult


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


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean, by Student's t; NaN of a single value."""
    return float(t.ppf(0.975, len(values) - 1) * sem(values)) if len(values) > 1 else float("nan")
