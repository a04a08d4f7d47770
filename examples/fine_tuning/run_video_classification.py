"""Fine-tunes FAL on labeled clips with transformers' Trainer: what `fal train` does, step by step.

    python run_video_classification.py small_set --train_dir clips --output_dir runs/mine
    python run_video_classification.py --train_dir clips --output_dir runs/mine --num_train_epochs 10 \\
        --eval_strategy epoch --learning_rate 1e-4 --warmup_steps 0.1 --lr_scheduler_type cosine

Copy this file and change it: what is trained on what is in `run`, and `ClipTrainer` is a Trainer, whose methods can be
overridden and which takes further callbacks. `accelerate launch` runs it on several devices. The model, its
processors and its card are in `<output_dir>/model` in the end.
"""

from fal_hf.training.arguments import parse_arguments
from fal_hf.training.run import prepare_run
from fal_hf.training.trainer import ClipTrainer, end_processes


def main(argv: list[str] | None = None) -> None:
    run = prepare_run(parse_arguments(argv))  # clips, model, loss; the rest of the recipe is built by the trainer
    trainer = ClipTrainer(run)
    result = trainer.train(resume_from_checkpoint=run.checkpoint)
    trainer.log_metrics("train", result.metrics)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()
    figures = trainer.evaluate_splits()
    for split, values in figures.items():
        trainer.log_metrics(split, values)
    if trainer.is_world_process_zero():
        print(run.unreadable)
    trainer.save_result(figures)


if __name__ == "__main__":
    main()
    end_processes()
