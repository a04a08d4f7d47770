"""Fine-tunes FAL on labeled clips with transformers' Trainer.

    python run_video_classification.py --train_dir clips --output_dir runs/mine --num_train_epochs 10 \\
        --eval_strategy epoch --learning_rate 1e-4 --warmup_steps 0.1 --lr_scheduler_type cosine
    python run_video_classification.py recipes/kinetics.json --train_file clips.csv --output_dir runs/kinetics

Everything that is trained and evaluated on is described in `video_classification_data`, the recipe's options in
`video_classification_recipe`; the rest are transformers' TrainingArguments. `accelerate launch` runs it on several
devices. The model, its processors and its card are in `<output_dir>/model` in the end.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from fal_hf.training.recipe import average_weights, build_optimizer, build_scheduler, count_epoch_steps
from fal_hf.training.run import Run, evaluation_figures, parse_arguments, prepare_run, save_result

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
    """Keeps a moving average of the weights beside them, in checkpoints too; it is the model in the end."""

    def __init__(self, decay: float, checkpoint: str | None):
        self.decay, self.checkpoint = decay, checkpoint
        self.average: AveragedModel | None = None

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.average = average_weights(model, self.decay)
        if self.checkpoint is not None:
            self.load(self.checkpoint)

    def on_step_end(self, args, state, control, model, **kwargs):
        self.average.update_parameters(model)

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            save_file(self.average.state_dict(), folder / AVERAGE_NAME)

    def on_train_end(self, args, state, control, model, **kwargs):
        if args.load_best_model_at_end and state.best_model_checkpoint:
            self.load(state.best_model_checkpoint)
        model.load_state_dict(self.average.module.state_dict())

    def load(self, checkpoint: str) -> None:
        self.average.load_state_dict(load_file(Path(checkpoint) / AVERAGE_NAME))


class ClipTrainer(Trainer):
    """Trainer with the run's sampler, optimizer, schedule and loss, which evaluates all views of a video together."""

    def __init__(self, run: Run):
        self.run = run
        recipe = run.arguments.recipe
        self.averaging = AverageCallback(recipe.ema_decay, run.checkpoint) if recipe.ema_decay else None
        callbacks = [EpochCallback(run), *([self.averaging] if self.averaging else [])]
        if recipe.early_stopping_patience:
            callbacks.append(EarlyStoppingCallback(recipe.early_stopping_patience))
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
            self.optimizer = build_optimizer(model, self.args, self.run.arguments.recipe)
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
        if self.averaging and self.averaging.average:
            model = self.averaging.average.module
        with self.accelerator.autocast():
            loss, logits = self.run.predict(model, inputs)
        return (loss, None, None) if prediction_loss_only else (loss, logits, inputs["labels"])

    def compute_figures(self, prediction: EvalPrediction) -> dict[str, float]:
        view_logits, labels = torch.from_numpy(prediction.predictions), torch.from_numpy(prediction.label_ids)
        return evaluation_figures(view_logits, labels, self.run.problem_type)


def main(argv: list[str] | None = None) -> None:
    run = prepare_run(parse_arguments(argv))
    trainer = ClipTrainer(run)
    result = trainer.train(resume_from_checkpoint=run.checkpoint)
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    figures = {}
    for split, clips in run.evaluation_clips.items():
        metrics = trainer.evaluate(clips, metric_key_prefix=split)
        trainer.log_metrics(split, metrics)
        trainer.save_metrics(split, metrics)
        values = {name.removeprefix(f"{split}_"): value for name, value in metrics.items()}
        figures[split] = {name: value for name, value in values.items() if name not in TIMINGS}
    state_dict = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if trainer.is_world_process_zero():
        print(run.unreadable)
        save_result(run, trainer.accelerator.unwrap_model(trainer.model), figures, state_dict=state_dict)


if __name__ == "__main__":
    main()
