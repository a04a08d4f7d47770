"""Losses, and training with transformers' Trainer: accumulated small batches are one large batch."""

import pytest
import torch
from tiny_fal import random_clip, realigned, tiny_config, tiny_model
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments

PROBLEMS = ("single_label_classification", "multi_label_classification", "regression")


def make_labels(problem: str, count: int, num_labels: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    if problem == "single_label_classification":
        return torch.randint(num_labels, (count,), generator=generator)
    if problem == "multi_label_classification":
        return torch.randint(2, (count, num_labels), generator=generator).float()
    return torch.randn(count, generator=generator)


def model_for(problem: str, **fields):
    num_labels = 1 if problem == "regression" else 5
    return tiny_model(tiny_config(grid=(2, 2, 2), num_labels=num_labels, num_hidden_layers=1, **fields))


def expected_loss(problem: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if problem == "single_label_classification":
        return F.cross_entropy(logits, labels)
    if problem == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(logits, labels)
    return F.mse_loss(logits.squeeze(-1), labels)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("is_named", [True, False])
def test_each_problem_has_its_loss_named_or_found_by_the_labels(problem, is_named):
    model = model_for(problem, problem_type=problem if is_named else None)
    labels = make_labels(problem, 3)
    outputs = model(random_clip(model.config, batch=3), labels=labels)
    torch.testing.assert_close(outputs.loss, expected_loss(problem, outputs.logits, labels))
    assert model.config.problem_type == problem


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("as_tensor", [True, False])
def test_the_loss_is_divided_by_the_items_of_the_whole_batch_where_they_are_given(problem, as_tensor):
    model = model_for(problem, problem_type=problem)
    labels = make_labels(problem, 3)
    num_items = 4 * labels.numel()
    clip = random_clip(model.config, batch=3)
    outputs = model(clip, labels=labels, num_items_in_batch=torch.tensor(num_items) if as_tensor else num_items)
    torch.testing.assert_close(outputs.loss, expected_loss(problem, outputs.logits, labels) / 4)


def test_a_clip_labelled_minus_100_is_left_out_of_the_loss():
    model = model_for("single_label_classification")
    clip = random_clip(model.config, batch=3)
    labels = torch.tensor([1, -100, 2])
    loss = model(clip, labels=labels).loss
    torch.testing.assert_close(loss, model(clip[[0, 2]], labels=labels[[0, 2]]).loss)


def train(problem: str, folder, *, batch_size: int, accumulation: int, count: int, steps: int, **fields):
    """The parameters after some steps of plain SGD, as one vector."""
    model = model_for(problem, problem_type=problem, **fields)
    clips, labels = random_clip(model.config, batch=count), make_labels(problem, count)
    dataset = [{"pixel_values": clip, "labels": label} for clip, label in zip(clips, labels, strict=True)]
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        max_steps=steps,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        weight_decay=0.0,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
    )
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    Trainer(model=model, args=arguments, train_dataset=dataset).train()
    return before, torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("count", "steps"), [(8, 1), (11, 2), (7, 1)])
def test_four_batches_of_two_step_as_one_batch_of_eight(problem, count, steps, tmp_path):
    """With 11 clips the second step has a batch of 2 and one of 1; with 7 the first ends in a batch of 1."""
    before, large = train(problem, tmp_path, batch_size=8, accumulation=1, count=count, steps=steps)
    _, accumulated = train(problem, tmp_path, batch_size=2, accumulation=4, count=count, steps=steps)
    step = (large - before).abs().max()
    assert step > 1e-3
    assert (accumulated - large).abs().max() < 1e-4 * step


def test_the_model_says_that_it_divides_the_loss_itself():
    from fal_hf import FALVideoClassifierForVideoClassification

    assert FALVideoClassifierForVideoClassification.accepts_loss_kwargs is True


def test_trainer_evaluates_and_saves_what_loads_again(tmp_path):
    from fal_hf import FALVideoClassifierForVideoClassification

    model = model_for("single_label_classification")
    clips, labels = random_clip(model.config, batch=4), make_labels("single_label_classification", 4)
    dataset = [{"pixel_values": clip, "labels": label} for clip, label in zip(clips, labels, strict=True)]
    arguments = TrainingArguments(output_dir=tmp_path, report_to="none", use_cpu=True, disable_tqdm=True)
    trainer = Trainer(model=model, args=arguments, eval_dataset=dataset)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(model(clips, labels=labels).loss.item(), rel=1e-5)
    assert trainer.predict(dataset).predictions.shape == (4, 5)
    trainer.save_model(tmp_path)
    again = FALVideoClassifierForVideoClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(realigned(again)(clips).logits, model(clips).logits)
