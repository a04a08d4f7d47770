"""Model cards: the README.md of a FAL repository, from the folder itself and from what only its maker knows."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id
from torch.utils.flop_counter import FlopCounterMode
from transformers.image_utils import PILImageResampling
from transformers.utils import CONFIG_NAME

from ..model.configuration_fal import FALConfig
from ..model.label_space import LABEL_STEPS
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from ..model.patch_layout import AdaptivePatches
from ..model.text_encoder import TEXT_FOLDER
from ..model.video_processing_fal import FALVideoProcessor

# The identifiers that the Hub takes (huggingface.co/docs/hub/repositories-licenses).
LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib
    pddl lgpl-lr deepfloyd-if-license llama2 gemma unknown other
    """.split()  # noqa: SIM905 (a list would have a line for each)
)
MAX_LABELS_IN_SIGHT = 20


@dataclass(frozen=True)
class Evaluation:
    """
    A measured result.

    Args:
        result: What was measured, on what, as the Hub's model index has it.
        command: The command that measured it and prints it again.
        details: Markdown that follows: intervals, a baseline, a table of the labels.
    """

    result: EvalResult
    command: str
    details: str | None = None


def write_model_card(folder: str | PathLike, *, license: str, **facts) -> Path:
    """Writes the card of [`build_model_card`] to `README.md` in the folder and returns its path."""
    path = Path(folder) / "README.md"
    build_model_card(folder, license=license, **facts).save(path)
    return path


def build_model_card(
    folder: str | PathLike,
    *,
    license: str,
    license_name: str | None = None,
    license_link: str | None = None,
    repo_id: str | None = None,
    name: str | None = None,
    summary: str | None = None,
    usage: str | None = None,
    origin: str | None = None,
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    tags: Sequence[str] = (),
    evaluations: Sequence[Evaluation] = (),
    limits: str | None = None,
) -> ModelCard:
    """
    The card of a FAL folder. Labels, sizes, cost and preprocessing are read from the folder.

    Texts are Markdown.

    Args:
        folder: A folder with a model's configuration and its processors, as `save_pretrained` writes them.
        license: An identifier of the Hub, see `LICENSES`; `"other"` needs a `license_name`.
        license_name: Name of another licence.
        license_link: URL of another licence, or the name of its file in the repository.
        repo_id: What the snippets load; the folder's name unless given.
        name: The title; the last part of `repo_id` unless given.
        summary: What the model does; a sentence on its labels unless given.
        usage: How to use it; snippets for `VideoLabeler` and the pipeline unless given.
        origin: What it was converted, fine-tuned or trained from, and how.
        base_model: Hub id of the model that it comes from.
        datasets: Hub ids of the data that it was trained on.
        tags: Tags of the repository, beyond "video-classification" and "fal".
        evaluations: Measured results.
        limits: What it cannot do.

    Raises:
        ValueError: for a folder without a FAL model, and for a licence, a base model or data sets that are none of
            the Hub's; the message says what was expected.
        OSError: if the processors are missing.
    """
    folder = Path(folder)
    _require_metadata(license, license_name, [*datasets, *([base_model] if base_model is not None else [])])
    if not (folder / CONFIG_NAME).is_file():
        raise ValueError(f"{folder}: expected a folder with a FAL model, got one without {CONFIG_NAME}")
    config = FALConfig.from_pretrained(folder)
    # a pair comes only where it is asked for
    processor: FALVideoProcessor = FALVideoProcessor.from_pretrained(folder)  # pyright: ignore[reportAssignmentType]
    repo_id = repo_id or folder.resolve().name
    name = name or repo_id.split("/")[-1]
    has_texts = config.classifier_type == "similarity" and (folder / TEXT_FOLDER / CONFIG_NAME).is_file()
    metadata = ModelCardData(
        license=license,
        license_name=license_name,
        license_link=license_link,
        library_name="transformers",
        pipeline_tag="video-classification",
        base_model=base_model,
        datasets=list(datasets) or None,
        metrics=sorted({evaluation.result.metric_type for evaluation in evaluations}) or None,
        tags=["video-classification", "fal", *tags],
        model_name=name if evaluations else None,
        eval_results=[evaluation.result for evaluation in evaluations] or None,
    )
    sections = {
        "Labels": describe_labels(config),
        "Use": usage or describe_usage(repo_id, has_code=hasattr(config, "auto_map"), has_texts=has_texts),
        "Model": describe_model(config),
        "Preprocessing": describe_preprocessing(processor),
        "Origin": origin or describe_origin(base_model),
        "Evaluation": describe_evaluations(evaluations),
        "Limits": limits or "Not stated. A video that shows none of the labels still gets the nearest ones.",
    }
    others = ", or any others that it is given" if has_texts else ""
    summary = summary or (
        f"A FAL space-time transformer that tells {config.num_labels} labels of videos apart{others}."
    )
    body = "\n\n".join([f"# {name}", summary, *(f"## {title}\n\n{text.strip()}" for title, text in sections.items())])
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}\n")


def _require_metadata(license: str, license_name: str | None, ids: Sequence[str]) -> None:
    """What the Hub would refuse is refused here, before anything is uploaded."""
    if license not in LICENSES:
        raise ValueError(
            f"expected a license identifier of the Hub (mit, apache-2.0, cc-by-nc-4.0, ...; all are in "
            f"fal_hf.hub.model_card.LICENSES), got {license!r}; for another license pass 'other' and license_name"
        )
    if license == "other" and license_name is None:
        raise ValueError("expected a license_name with the license 'other', got none")
    for repo_id in ids:
        validate_repo_id(repo_id)


# Sections


def describe_labels(config: FALConfig) -> str:
    """The labels in the order of the logits, folded away where they are many."""
    names = [_as_code(name) for _, name in sorted((config.id2label or {}).items())]
    text = ", ".join(names)
    if len(names) <= MAX_LABELS_IN_SIGHT:
        return text
    return f"<details>\n<summary>{len(names)} labels</summary>\n\n{text}\n\n</details>"


def _as_code(text: str) -> str:
    """A name as inline code, whatever signs are in it."""
    text = " ".join(text.split())
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def describe_usage(repo_id: str, *, has_code: bool, has_texts: bool) -> str:
    """Snippets that load the repository and label `video.mp4`, with other labels too where texts can be embedded."""
    labeler = f"""\
With the package `fal-hf`:

```python
from fal_hf import VideoLabeler

labeler = VideoLabeler.from_pretrained("{repo_id}")
print(labeler("video.mp4").labels)
```

Or with the pipeline of Transformers:

```python
import fal_hf  # registers FAL with transformers
from transformers import pipeline

classify = pipeline("video-classification", model="{repo_id}")
print(classify("video.mp4", top_k=3))
```"""
    code = f"""

Or, where `fal-hf` is not installed, with the code that comes with these weights (it needs `transformers` and `av`):

```python
from transformers import pipeline

classify = pipeline("video-classification", model="{repo_id}", trust_remote_code=True)
print(classify("video.mp4", top_k=3))
```"""
    texts = f"""

Its labels are texts. Others, in your own words, take their place without training:

```python
from fal_hf import FALVideoClassifierForVideoClassification, FALVideoProcessor

model = FALVideoClassifierForVideoClassification.from_pretrained("{repo_id}")
processor = FALVideoProcessor.from_pretrained("{repo_id}")
model.set_labels(["a dog runs", "a car turns"])
scores = model(**processor("video.mp4", return_tensors="pt")).logits[0].softmax(-1)
print(dict(zip(model.config.id2label.values(), scores.tolist())))
```"""
    return labeler + (texts if has_texts else "") + (code if has_code else "")


def describe_model(config: FALConfig) -> str:
    """Sizes and cost of the model."""
    frames, rows, columns = config.grid_size
    patch = config.patch_size
    parameters, gflop = count_parameters_and_gflop(config)
    order = f", order `{config.attention_order}`" if config.attention_type == "divided_space_time" else ""
    adaptive = config.adaptive_patches
    bound = "at most " if adaptive is not None and adaptive.share is None else ""
    rows_of_table = {
        "attention": f"`{config.attention_type}`{order}",
        "clip": f"{frames} frames of {rows * patch} × {columns * patch} pixels in patches of {patch} × {patch}",
        "adaptive patches": describe_patches(config),
        "blocks": f"{config.num_hidden_layers} of width {config.hidden_size}, {config.num_attention_heads} heads",
        "scores": describe_scores(config),
        "temperature": "" if config.temperature == 1 else f"scores are divided by {config.temperature:.4g}",
        "label space": describe_label_space(config),
        "parameters": f"{parameters:,}",
        "cost": f"{bound}{gflop:.3g} GFLOP a clip (matrix products; a multiply-add is two)",
    }
    return _as_table({name: text for name, text in rows_of_table.items() if text})


def describe_patches(config: FALConfig) -> str:
    """How patches adapt to the clip; empty where they do not."""
    patches = config.adaptive_patches
    if patches is None:
        return ""
    if patches.static_threshold is not None:
        return f"those that change by less than {patches.static_threshold:g} from frame to frame are left out"
    size = 2 * config.patch_size
    kept = f"in {patches.share:.0%} of the tokens" if patches.threshold is None else f"above {patches.threshold:g}"
    return f"the most complex parts of a picture, {kept}; elsewhere patches of {size} × {size}"


def describe_scores(config: FALConfig) -> str:
    """What a clip is compared with; empty for a head that is trained for its labels."""
    if config.classifier_type != "similarity":
        return ""
    size, prompt = config.label_embedding_size, _as_code(config.label_prompt)
    return f"similarity to {config.num_labels} label embeddings of size {size}, prompt {prompt}"


def describe_label_space(config: FALConfig) -> str:
    """What stands above the labels, and how they take part as tokens; empty where there is neither."""
    has_tokens = config.label_attention != "none"
    if config.label_hierarchy is None and not has_tokens:
        return ""
    space = config.label_space
    num_above = len(space.names) - space.num_labels
    text = f"{space.num_labels} labels and {num_above} above them, levels: {space.num_levels}"
    tokens = f"; tokens (`{config.label_attention}`) from block {config.label_integration_layer + 1} on"
    has_crossings = bool(LABEL_STEPS[config.label_attention])
    gates = ", without gates" if has_crossings and not config.label_gates else ""
    return text + (tokens + gates if has_tokens else "")


def count_parameters_and_gflop(config: FALConfig) -> tuple[int, float]:
    """
    The number of parameters, and the cost of one clip of the configured size in 10⁹ operations.

    Counted are the matrix products of inference, two operations for a multiply-add, on shapes alone. Where patches
    adapt by a threshold it is the most that a clip can cost.
    """
    frames, rows, columns = config.grid_size
    with torch.device("meta"):
        # Eager attention: its products are what the counter knows on every device. The config is not to keep it.
        eager = {"config": copy.deepcopy(config), "attn_implementation": "eager"}
        model = FALVideoClassifierForVideoClassification._from_config(**eager).eval()
        if config.adaptive_patches is not None and config.adaptive_patches.share is None:
            model.adapt_patches(AdaptivePatches(share=1.0) if config.adaptive_patches.merges_cells else None)
        clip = torch.empty(1, frames, config.num_channels, rows * config.patch_size, columns * config.patch_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(clip.to(model.dtype))
    return model.num_parameters(), counter.get_total_flops() / 1e9


def describe_preprocessing(processor: FALVideoProcessor) -> str:
    """What happens to a video before the model sees it, by the settings of its processor."""
    rows = {"frames of a clip": _describe_sampling(processor)}
    if processor.num_clips > 1:
        rows["clips of a video"] = f"{processor.num_clips}, spread over the video; `VideoLabeler` averages them"
    if processor.do_resize:
        rows["resize"] = f"{_describe_size(processor.size)}, {PILImageResampling(processor.resample).name.lower()}"
    if processor.do_center_crop:
        rows["center crop"] = _describe_size(processor.crop_size)
    if processor.do_rescale:
        rows["values"] = f"divided by {1 / processor.rescale_factor:g}"
    if processor.do_normalize:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in _mean_and_std(processor))
        rows["normalization"] = f"mean {mean}; standard deviation {std}"
    rows["channels"] = "blue, green, red" if processor.do_flip_channel_order else "red, green, blue"
    return _as_table(rows)


def _describe_sampling(processor: FALVideoProcessor) -> str:
    start = f", from {processor.start_seconds:g} s on" if processor.start_seconds else ""
    spacings = {
        "fps": "as many as {:g} a second make, spread evenly",
        "frame_stride": f"{processor.num_frames}, {{:g}} frames apart{start}",
        "frame_interval_seconds": f"{processor.num_frames}, {{:g}} s apart{start}",
    }
    chosen = [text.format(value) for name, text in spacings.items() if (value := getattr(processor, name, None))]
    return chosen[0] if chosen else f"{processor.num_frames}, spread evenly over the video"


def _describe_size(size) -> str:
    """A size of transformers: of the short side, or of both."""
    return f"short side {size.shortest_edge}" if size.shortest_edge else f"{size.height} × {size.width}"


def _mean_and_std(processor: FALVideoProcessor) -> list[list[float]]:
    values = (processor.image_mean, processor.image_std)
    return [[value] if isinstance(value, int | float) else list(value) for value in values]


def describe_origin(base_model: str | None) -> str:
    """Where the weights come from, where nobody said more."""
    if base_model is None:
        return "Not stated."
    return f"Made from [`{base_model}`](https://huggingface.co/{base_model})."


def describe_evaluations(evaluations: Sequence[Evaluation]) -> str:
    """All results in one table, then the command and the details of each."""
    if not evaluations:
        return "Not evaluated."
    table = ["| data | metric | value |", "| --- | --- | --- |"]
    for result in (evaluation.result for evaluation in evaluations):
        table.append(f"| {result.dataset_name} | {result.metric_name or result.metric_type} | {result.metric_value} |")
    commands = [
        f"```bash\n{evaluation.command}\n```" + (f"\n\n{evaluation.details.strip()}" if evaluation.details else "")
        for evaluation in evaluations
    ]
    return "\n\n".join(["\n".join(table), *commands])


def _as_table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


__all__ = ["LICENSES", "Evaluation", "build_model_card", "write_model_card"]
