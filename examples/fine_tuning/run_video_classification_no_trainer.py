"""Fine-tunes FAL on labeled clips with a training loop of its own on Accelerate.

    python run_video_classification_no_trainer.py small_set --train_dir clips --output_dir runs/mine
    accelerate launch run_video_classification_no_trainer.py kinetics --train_file clips.csv \\
        --output_dir runs/kinetics

Arguments, data, recipe and result are those of `fal train`; what is in TrainingArguments and not done here is refused.
Copy this file and change it where Trainer does not do what you want.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator, skip_first_batches
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import TrainingArguments
from transformers.integrations.integration_utils import rewrite_logs
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints, speed_metrics

from fal_hf.training.arguments import parse_arguments, uses_fsdp
from fal_hf.training.clips import IGNORED
from fal_hf.training.recipe import average_weights, build_optimizer, build_scheduler, count_epoch_steps
from fal_hf.training.result import save_result
from fal_hf.training.run import CHECKPOINT_STATES, Run, prepare_run

# What this loop does of TrainingArguments.
DONE = frozenset(
    """
    output_dir do_train do_eval per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps
    learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm num_train_epochs max_steps
    lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args label_smoothing_factor seed bf16 fp16 use_cpu
    gradient_checkpointing gradient_checkpointing_kwargs activation_checkpointing activation_checkpointing_kwargs
    torch_compile torch_compile_backend torch_compile_mode
    logging_steps eval_strategy eval_steps save_strategy save_steps save_total_limit load_best_model_at_end
    metric_for_best_model greater_is_better dataloader_num_workers dataloader_persistent_workers
    dataloader_pin_memory dataloader_prefetch_factor report_to run_name disable_tqdm resume_from_checkpoint
    push_to_hub hub_model_id hub_token hub_private_repo remove_unused_columns
    """.split()  # noqa: SIM905 (a list would have a line for each)
)
STATE_NAME = CHECKPOINT_STATES[1]
BEST_NAME = "best.pt"


def refuse_what_is_not_done(training: TrainingArguments) -> None:
    """Raises a ValueError where an argument is set that this loop would ignore."""
    usual = TrainingArguments(output_dir=training.output_dir, use_cpu=training.use_cpu)
    changed = [one.name for one in fields(usual) if getattr(training, one.name) != getattr(usual, one.name)]
    ignored = sorted(name for name in changed if name not in DONE)
    if ignored:
        raise ValueError(f"{', '.join('--' + name for name in ignored)}: `fal train` does that")
    if training.save_strategy == "best":
        raise ValueError("--save_strategy: expected no, steps or epoch; the best weights are kept in any case")
    if training.lr_scheduler_type == "reduce_lr_on_plateau":
        raise ValueError("--lr_scheduler_type reduce_lr_on_plateau: `fal train` does that")
    if training.load_best_model_at_end and uses_fsdp(training):
        raise ValueError("--load_best_model_at_end: with FSDP, `fal train` does that")


class Loop:
    """The training loop of a run."""

    def __init__(self, run: Run, accelerator: Accelerator):
        self.run, self.accelerator = run, accelerator
        self.training = training = run.arguments.training
        self.epoch_steps = count_epoch_steps(len(run.sampler), training)
        self.num_steps = training.max_steps
        if training.max_steps <= 0:
            self.num_steps = math.ceil(training.num_train_epochs * self.epoch_steps)
        if training.gradient_checkpointing:
            run.model.gradient_checkpointing_enable(training.gradient_checkpointing_kwargs or {"use_reentrant": False})
        optimizer = build_optimizer(run.model, training, run.arguments.recipe)
        loader = self.make_loader(run.training_clips, training.per_device_train_batch_size, sampler=run.sampler)
        self.model, self.optimizer, self.loader = accelerator.prepare(run.model, optimizer, loader)
        # Not prepared: accelerate would step it once for each process.
        self.scheduler = build_scheduler(
            optimizer, training, run.arguments.recipe, num_steps=self.num_steps, epoch_steps=self.epoch_steps
        )
        self.average = average_weights(self.model_itself, run.arguments.recipe.ema_decay)
        accelerator.register_for_checkpointing(self.scheduler, *([self.average] if self.average else []))
        self.eval_loaders = {
            split: accelerator.prepare(self.make_loader(clips, training.per_device_eval_batch_size))
            for split, clips in run.evaluation_clips.items()
        }
        self.step, self.best, self.evaluations_since_best = 0, None, 0
        self.log_history: list[dict] = []
        self.losses: list[float] = []  # of the steps since the last log

    @property
    def model_itself(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)

    def make_loader(self, clips, batch_size: int, sampler=None) -> DataLoader:
        training = self.training
        return DataLoader(
            clips,
            batch_size,
            sampler=sampler,
            collate_fn=self.run.collator,
            num_workers=training.dataloader_num_workers,
            persistent_workers=training.dataloader_persistent_workers,
            pin_memory=training.dataloader_pin_memory,
            prefetch_factor=training.dataloader_prefetch_factor,
            generator=torch.Generator(),  # the seeds of workers do not come out of the model's randomness
        )

    def train(self) -> dict[str, float]:
        """All epochs, from the checkpoint's step on; how long they took and their mean loss, named as Trainer does."""
        if self.run.checkpoint is not None:
            self.load_checkpoint(Path(self.run.checkpoint))
        start_time, first_step, total_loss = time.time(), self.step, 0.0
        progress = tqdm(total=self.num_steps, initial=self.step, disable=self.is_quiet, desc="training")
        while self.step < self.num_steps:
            epoch, steps_done = divmod(self.step, self.epoch_steps)
            for batches in self.read_epoch(epoch, steps_done):
                values = self.take_step(batches)
                progress.update()
                total_loss += values["loss"]
                self.after_step(values)
                if self.step >= self.num_steps:
                    break
        progress.close()
        num_steps = self.step - first_step
        num_clips = len(self.run.sampler) * num_steps / self.epoch_steps
        speed = speed_metrics("train", start_time, num_samples=num_clips, num_steps=num_steps)
        return {**speed, "train_loss": total_loss / max(num_steps, 1)}

    @property
    def is_quiet(self) -> bool:
        return bool(self.training.disable_tqdm) or not self.accelerator.is_main_process

    def read_epoch(self, epoch: int, steps_done: int) -> Iterator[list[dict]]:
        """The batches of each step of an epoch that is not done."""
        accumulation = self.training.gradient_accumulation_steps
        loader = skip_first_batches(self.loader, steps_done * accumulation) if steps_done else self.loader
        self.run.sampler.set_epoch(epoch)  # accelerate does not reach it through a loader that skips
        loader.set_epoch(epoch)
        batches = iter(loader)
        while step_batches := list(islice(batches, accumulation)):
            yield step_batches

    def take_step(self, batches: list[dict]) -> dict[str, float]:
        """One step of the optimizer; returns the loss over all processes, the gradient's norm, the learning rate."""
        accelerator = self.accelerator
        self.model.train()
        num_items = sum(batch["labels"].ne(IGNORED).sum() for batch in batches)
        num_items = accelerator.reduce(num_items.to(accelerator.device), "sum")
        total = torch.zeros((), device=accelerator.device)
        for index, batch in enumerate(batches):
            is_last = index == len(batches) - 1
            with nullcontext() if is_last else accelerator.no_sync(self.model):
                outputs = self.model(batch[self.run.input_name])
                # Gradients are averaged over the processes; the loss is divided by the items of all of them already.
                loss = self.run.loss(outputs, batch["labels"], num_items) * accelerator.num_processes
                accelerator.backward(loss)
            total += loss.detach()
        values = {}
        if self.training.max_grad_norm > 0:
            norm = accelerator.clip_grad_norm_(self.model.parameters(), self.training.max_grad_norm)
            values["grad_norm"] = float(norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        values["learning_rate"] = self.scheduler.get_last_lr()[0]
        if not accelerator.optimizer_step_was_skipped:
            self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.model_itself)
        self.step += 1
        return {"loss": accelerator.reduce(total, "mean").item(), **values}

    def after_step(self, values: dict[str, float]) -> None:
        """Logs, evaluates, saves and stops, whatever is due."""
        training = self.training
        self.losses.append(values["loss"])
        if self.is_due("steps", training.logging_steps):
            self.log({**values, "loss": sum(self.losses) / len(self.losses)})
            self.losses.clear()
        is_better = False
        if self.is_due(training.eval_strategy, training.eval_steps):
            figures = self.evaluate("validation")
            self.log({f"eval_{name}": value for name, value in figures.items()})
            is_better = self.note_best(figures)
        if self.is_due(training.save_strategy, training.save_steps):
            self.save_checkpoint()
        patience = self.run.arguments.recipe.early_stopping_patience
        if patience and not is_better and self.evaluations_since_best >= patience:
            self.num_steps = self.step

    def is_due(self, strategy: str, every: float | None) -> bool:
        """Whether what happens every so many steps (below 1: that share of all), or every epoch, happens now."""
        if strategy == "steps":
            return self.step % (math.ceil(self.num_steps * every) if every < 1 else int(every)) == 0
        return strategy == "epoch" and (self.step % self.epoch_steps == 0 or self.step == self.num_steps)

    def log(self, values: dict[str, float]) -> None:
        values = {**values, "epoch": self.step / self.epoch_steps}
        self.log_history.append({**values, "step": self.step})
        self.accelerator.log(rewrite_logs(values), step=self.step)
        if not self.is_quiet:
            tqdm.write(str({name: float(f"{value:.5g}") for name, value in values.items()}))

    def evaluate(self, split: str) -> dict[str, float]:
        """The figures of a split, of the averaged weights where there are such."""
        model = self.model if self.average is None else self.average.module
        model.eval()
        losses, logits, labels = [], [], []
        for batch in tqdm(self.eval_loaders[split], desc=split, disable=self.is_quiet, leave=False):
            with self.accelerator.autocast():
                loss, batch_logits = self.run.predict(model, batch)
            gathered = self.accelerator.gather_for_metrics((batch_logits, batch["labels"]))
            losses.append(self.accelerator.gather_for_metrics(loss.repeat(len(batch["labels"]))).cpu())
            logits.append(gathered[0].cpu())
            labels.append(gathered[1].cpu())
        figures = self.run.figures(torch.cat(logits), torch.cat(labels))
        return {"loss": torch.cat(losses).mean().item(), **figures}

    # ---- what is kept ----

    def note_best(self, figures: dict[str, float]) -> bool:
        """Whether these figures are the best yet; then the weights are kept where they are to be loaded in the end."""
        training = self.training
        name = (training.metric_for_best_model or "loss").removeprefix("eval_")
        if name not in figures:
            raise ValueError(f"--metric_for_best_model: expected one of {', '.join(figures)}, got {name}")
        value = figures[name]
        sign = 1 if training.greater_is_better else -1
        is_better = self.best is None or sign * value > sign * self.best
        self.evaluations_since_best = 0 if is_better else self.evaluations_since_best + 1
        if is_better:
            self.best = value
            if training.load_best_model_at_end:
                self.accelerator.save(self.weights(), self.run.output_dir / BEST_NAME)
        return is_better

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights that are evaluated: averaged ones where there are such."""
        return (
            self.accelerator.get_state_dict(self.model) if self.average is None else self.average.module.state_dict()
        )

    def final_weights(self) -> dict[str, torch.Tensor]:
        if self.training.load_best_model_at_end and self.best is not None:
            self.accelerator.wait_for_everyone()
            best = self.run.output_dir / BEST_NAME
            return torch.load(best, map_location="cpu", weights_only=True)
        return self.weights()

    def save_checkpoint(self) -> None:
        folder = self.run.output_dir / f"{PREFIX_CHECKPOINT_DIR}-{self.step}"
        self.accelerator.save_state(str(folder))
        if self.accelerator.is_main_process:
            state = {name: getattr(self, name) for name in ("step", "best", "evaluations_since_best", "log_history")}
            (folder / STATE_NAME).write_text(json.dumps(state))
            rotate_checkpoints(self.training.output_dir, self.training.save_total_limit)

    def load_checkpoint(self, folder: Path) -> None:
        state = json.loads((folder / STATE_NAME).read_text())
        self.accelerator.load_state(str(folder))
        for name, value in state.items():
            setattr(self, name, value)
        best, own = folder.parent / BEST_NAME, self.run.output_dir / BEST_NAME
        if self.accelerator.is_main_process and best.exists() and best.resolve() != own.resolve():
            shutil.copyfile(best, own)


def main(argv: list[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    training = arguments.training
    refuse_what_is_not_done(training)
    accelerator = Accelerator(
        mixed_precision=training.mixed_precision,
        log_with=training.report_to or None,
        project_dir=training.output_dir,
        cpu=training.use_cpu,
    )
    missing = set(training.report_to) - set(map(str, accelerator.log_with))
    if missing:
        raise ImportError(f"--report_to: {', '.join(sorted(missing))} is not installed")
    accelerator.init_trackers(training.run_name or arguments.output_dir.name, training.to_sanitized_dict())
    run = prepare_run(arguments)
    loop = Loop(run, accelerator)
    results = loop.train()
    loop.log(results)
    weights = loop.final_weights()
    model = loop.model_itself if loop.average is None else loop.average.module
    if not uses_fsdp(training):
        model.load_state_dict(weights)
    figures = {split: loop.evaluate(split) for split in run.evaluation_clips}
    for split, each in figures.items():
        named = {f"{split}_{name}": value for name, value in each.items()}
        loop.log(named)
        results |= named
    if accelerator.is_main_process:
        log_history = {"log_history": loop.log_history}
        (run.output_dir / "all_results.json").write_text(json.dumps(results, indent=4, sort_keys=True) + "\n")
        (run.output_dir / "trainer_state.json").write_text(json.dumps(log_history, indent=2) + "\n")
        print(json.dumps(results, indent=4))
        print(run.unreadable)
        save_result(run, model, figures, state_dict=weights if uses_fsdp(training) else None)
    accelerator.end_training()


if __name__ == "__main__":
    main()
