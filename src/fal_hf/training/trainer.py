"""Training with transformers' Trainer."""

from pathlib import Path

import torch
from accelerate import PartialState
from huggingface_hub import CommitInfo
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .arguments import Arguments
from .clips import AugmentationArguments
from .data import DataArguments
from .recipe import RecipeArguments, average_weights, build_optimizer, build_scheduler, count_epoch_steps
from .result import TrainingResult, save_result
from .run import Run, prepare_run
from .start import ModelArguments

AVERAGE_NAME = "average.safetensors"
# What Trainer adds to the figures of an evaluation, and a card does not need.
TIMINGS = ("runtime", "samples_per_second", "steps_per_second", "epoch")


class EpochCallback(TrainerCallback):
    """Tells the sampler the epoch, from which it draws the order and the clips their changes."""

    def __init__(self, run: Run):
        self.run = run

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.run.sampler.set_epoch(int(state.epoch or 0))


class AverageCallback(TrainerCallback):
    """
    Keeps a moving average of the weights beside them, in checkpoints too; it is the model in the end. Without a decay
    there is none, and nothing happens.
    """

    def __init__(self, run: Run):
        self.decay, self.checkpoint, self.output_dir = run.arguments.recipe.ema_decay, run.checkpoint, run.output_dir
        self.average: AveragedModel | None = None

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.average = average_weights(model, self.decay)
        if self.average is not None and self.checkpoint is not None:
            load_average(self.average, self.checkpoint)

    def on_step_end(self, args, state, control, model, **kwargs):
        if self.average is not None:
            self.average.update_parameters(model)

    def on_save(self, args, state, control, **kwargs):
        if self.average is not None and state.is_world_process_zero:
            folder = self.output_dir / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            save_file(self.average.state_dict(), folder / AVERAGE_NAME)

    def on_train_end(self, args, state, control, model, **kwargs):
        if self.average is None:
            return
        if args.load_best_model_at_end and state.best_model_checkpoint:
            load_average(self.average, state.best_model_checkpoint)
        model.load_state_dict(self.average.module.state_dict())


def load_average(average: AveragedModel, checkpoint: str) -> None:
    """Reads what a checkpoint has kept of the averaged weights."""
    average.load_state_dict(load_file(Path(checkpoint) / AVERAGE_NAME))


class ClipTrainer(Trainer):
    """Trainer with the run's sampler, optimizer, schedule and loss, which evaluates all views of a video together."""

    def __init__(self, run: Run):
        self.run = run
        self.averaging = AverageCallback(run)
        callbacks: list[TrainerCallback] = [EpochCallback(run), self.averaging]
        if patience := run.arguments.recipe.early_stopping_patience:
            callbacks.append(EarlyStoppingCallback(patience))
        super().__init__(
            model=run.model,
            args=run.arguments.training,
            train_dataset=run.training_clips,
            eval_dataset=run.evaluation_clips.get("validation"),
            data_collator=run.collator,
            compute_loss_func=run.loss,
            compute_metrics=self.compute_figures,
            callbacks=callbacks,
        )

    def _get_train_sampler(self, train_dataset=None):
        return self.run.sampler

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            model = self.model if model is None else model
            self.optimizer = build_optimizer(
                model,  # pyright: ignore[reportArgumentType]  # Trainer has one, which its hint leaves open
                self.args,
                self.run.arguments.recipe,
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            self.lr_scheduler = build_scheduler(
                self.optimizer if optimizer is None else optimizer,
                self.args,
                self.run.arguments.recipe,
                num_steps=num_training_steps,
                epoch_steps=count_epoch_steps(len(self.run.sampler), self.args),
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        if self.averaging.average is not None:
            model = self.averaging.average.module
        with self.accelerator.autocast():
            loss, logits = self.run.predict(model, inputs)
        return (loss, None, None) if prediction_loss_only else (loss, logits, inputs["labels"])

    def compute_figures(self, prediction: EvalPrediction) -> dict[str, float]:
        return self.run.figures(torch.from_numpy(prediction.predictions), torch.from_numpy(prediction.label_ids))

    def evaluate_splits(self) -> dict[str, dict[str, float]]:
        """Evaluates the clips of every split that is not trained on; saves all figures, returns those of a card."""
        figures = {}
        for split, clips in self.run.evaluation_clips.items():
            metrics = self.evaluate(clips, metric_key_prefix=split)
            self.save_metrics(split, metrics)
            values = {name.removeprefix(f"{split}_"): value for name, value in metrics.items()}
            figures[split] = {name: value for name, value in values.items() if name not in TIMINGS}
        return figures

    def save_result(self, figures: dict[str, dict[str, float]]) -> CommitInfo | None:
        """[`save_result`] of the run, by one process, with the weights of all of them."""
        weights = self.accelerator.get_state_dict(self.model_wrapped) if self.is_fsdp_enabled else None
        if not self.is_world_process_zero():
            return None
        return save_result(self.run, self.accelerator.unwrap_model(self.model), figures, state_dict=weights)


def train(
    *,
    data: DataArguments,
    training: TrainingArguments,
    model: ModelArguments | None = None,
    augmentation: AugmentationArguments | None = None,
    recipe: RecipeArguments | None = None,
) -> TrainingResult:
    """
    Trains a video classifier on labeled clips, evaluates it, and saves it with its processors and a card.

    Args:
        data: The clips.
        training: The output folder, the number of epochs, the batch size and all else of Trainer.
        model: What to start from; the package's camera-motion checkpoint unless given.
        augmentation: How training clips are changed; by random crops alone unless given.
        recipe: Learning rates by depth, class weights, averaged weights.

    Raises:
        ValueError: arguments, clips or their labels do not fit one another; the message says what was expected.
        RuntimeError: too many clips cannot be read.
    """
    given = {"model": model, "augmentation": augmentation, "recipe": recipe}
    given = {name: value for name, value in given.items() if value is not None}
    return fit(prepare_run(Arguments(data=data, training=training, **given)))


def fit(run: Run) -> TrainingResult:
    """Trains, evaluates and saves what [`prepare_run`] has prepared."""
    trainer = ClipTrainer(run)
    metrics = trainer.train(resume_from_checkpoint=run.checkpoint).metrics
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    figures = trainer.evaluate_splits()
    commit = trainer.save_result(figures)
    return TrainingResult(
        output_dir=run.output_dir,
        figures=figures,
        training=metrics,
        unreadable=run.unreadable.reasons(),
        commit=commit,
    )


def end_processes() -> None:
    """Ends what the processes of a launched run share: none is to exit while its threads still wait for others."""
    PartialState().destroy_process_group()
