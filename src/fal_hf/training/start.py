"""The model that a run starts from, and which of its parameters it trains."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from accelerate.logging import get_logger
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, VIDEO_PROCESSOR_NAME

from ..conversion import ConversionOptions, convert
from ..conversion.checkpoint_files import shorten
from ..conversion.label_tokens import LABEL_FIELDS, LABEL_WEIGHTS, label_fields, set_label_embeddings
from ..hub.model_card import LICENSES
from ..labeling.aggregation import MULTI_LABEL
from ..labeling.labeler import DEFAULT_CHECKPOINT
from ..model.configuration_fal import PRESETS, FALConfig
from ..model.label_space import LABEL_ATTENTIONS, check_prompt
from ..model.modeling_fal import FALVideoClassifierForVideoClassification
from ..model.patch_layout import AdaptivePatches
from ..model.video_processing_fal import FALVideoProcessor
from .data import SINGLE_LABEL, label_indices, named_option, refuse_empty

logger = get_logger(__name__)

LORA_TARGETS = r"(.*\.)?fal\.layers\..*\.(qkv|o_proj)"
# What `--freeze` takes beside a number of blocks: both train the same, features are computed once.
BACKBONE, FEATURES = "backbone", "features"
# What a layout of adaptive patches adds to a uniform one's weights.
CELL_WEIGHTS = "fal.embeddings.cell_projection."
# Weights that were converted before a run, in its output folder.
START_FOLDER = "start"


@dataclass
class ModelArguments:
    """Which model is trained, from which weights."""

    _argument_group_name = "model"

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of FAL, TimeSformer or image ViT weights; the package's camera-motion "
            "checkpoint unless this or --config_name is given."
        },
    )
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of a Hub id."})
    config_name: str | None = field(
        default=None,
        metadata={"help": f"Train from nothing: a preset ({', '.join(PRESETS)}) or a folder with a config.json."},
    )
    config_overrides: str | None = field(
        default=None, metadata={"help": "Changes of it: hidden_size=128,attention_type=axial"}
    )
    num_frames: int | None = field(default=None, metadata={"help": "Frames of a clip; unset: the checkpoint's."})
    image_size: int | None = field(default=None, metadata={"help": "Side of a frame; unset: the checkpoint's."})
    frame_interval_seconds: float | None = field(default=None, metadata={"help": "Distance of a clip's frames."})
    frame_stride: int | None = field(default=None, metadata={"help": "The same in frames."})
    spread_frames: bool = field(default=False, metadata={"help": "Spread a clip's frames over the whole video."})
    problem_type: str | None = field(
        default=None, metadata={"help": f"{SINGLE_LABEL} or {MULTI_LABEL}; unset: what the clips' labels say."}
    )
    label_attention: str | None = field(
        default=None,
        metadata={"help": f"Labels as tokens: {', '.join(LABEL_ATTENTIONS)}; unset: the checkpoint's."},
    )
    label_integration_layer: int | None = field(
        default=None, metadata={"help": "Blocks that come before the labels; unset: the checkpoint's, else 8."}
    )
    hierarchy: str | None = field(
        default=None,
        metadata={"help": "JSON file of label and parent; unset: the checkpoint's, where the clips have its labels."},
    )
    label_embeddings: str | None = field(
        default=None,
        metadata={
            "help": "Embeddings of the labels, a .safetensors file with a row for each; unset: where clips are scored "
            "by their likeness to labels, those of the checkpoint's text tower, else a random start of the tokens."
        },
    )
    label_prompt: str | None = field(
        default=None,
        metadata={"help": "Text that stands for a label in the text tower, a video of {}; unset: the checkpoint's."},
    )
    adaptive_patches: float | None = field(
        default=None,
        metadata={
            "help": "Patches that adapt to the clip: tokens of a frame as a share of its patches, 0.25 to 1; unset: "
            "the checkpoint's own layout."
        },
    )
    drop_path_rate: float | None = field(default=None, metadata={"help": "Stochastic depth of the last block."})
    freeze: int | str | None = field(
        default=None,
        metadata={
            "help": f"What is kept as it is: a number of first blocks, with the embeddings; {BACKBONE}: all but the "
            f"head and labels as tokens; {FEATURES}: the same, computed once and kept in <output_dir>/features. An "
            "epoch then takes one of a clip's --eval_num_clips x --eval_num_crops views, and no random changes."
        },
    )
    lora_rank: int = field(default=0, metadata={"help": "Rank of LoRA adapters (needs peft); 0: none."})
    lora_alpha: int = field(default=16, metadata={"help": "Their scale is alpha / rank."})
    eval_num_clips: int = field(default=1, metadata={"help": "Clips of a video whose probabilities are averaged."})
    eval_num_crops: int = field(default=1, metadata={"help": "Crops of a clip: 1, or 3 along the longer side."})
    license: str = field(default="unknown", metadata={"help": "The card's license, an identifier of the Hub."})

    def __post_init__(self):
        refuse_empty(self, [one.name for one in fields(self)])
        for name in ("num_frames", "image_size", "frame_interval_seconds", "frame_stride", "lora_alpha"):
            if (value := getattr(self, name)) is not None and not 0 < value < math.inf:
                raise ValueError(f"--{name}: expected a number above 0, got {value}")
        if self.adaptive_patches is not None:
            with named_option("adaptive_patches"):
                AdaptivePatches(share=self.adaptive_patches)
        if self.drop_path_rate is not None and not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"--drop_path_rate: expected a share in [0, 1), got {self.drop_path_rate}")
        if self.model_name_or_path and self.config_name:
            raise ValueError("expected --model_name_or_path (weights) or --config_name (from nothing), got both")
        if self.config_overrides and not self.config_name:
            raise ValueError("--config_overrides: expected --config_name with it; weights have their own sizes")
        if sum(map(bool, (self.frame_interval_seconds, self.frame_stride, self.spread_frames))) > 1:
            raise ValueError("expected one of --frame_interval_seconds, --frame_stride and --spread_frames")
        if self.problem_type not in (None, SINGLE_LABEL, MULTI_LABEL):
            raise ValueError(f"--problem_type: expected {SINGLE_LABEL} or {MULTI_LABEL}, got {self.problem_type!r}")
        if self.label_attention not in (None, *LABEL_ATTENTIONS):
            choices = ", ".join(LABEL_ATTENTIONS)
            raise ValueError(f"--label_attention: expected one of {choices}, got {self.label_attention!r}")
        if self.label_prompt is not None:
            with named_option("label_prompt"):
                check_prompt(self.label_prompt)
        self._check_freeze()
        if self.lora_rank < 0:
            raise ValueError(f"--lora_rank: expected at least 0, got {self.lora_rank}")
        if self.eval_num_crops not in (1, 3):
            raise ValueError(f"--eval_num_crops: expected 1 or 3, got {self.eval_num_crops}")
        if self.eval_num_clips < 1:
            raise ValueError(f"--eval_num_clips: expected at least 1, got {self.eval_num_clips}")
        if self.license not in LICENSES:
            raise ValueError(f"--license: expected an identifier of the Hub, mit for instance, got {self.license!r}")

    def _check_freeze(self) -> None:
        if isinstance(self.freeze, str) and self.freeze.isdecimal():
            self.freeze = int(self.freeze)  # as the command line has it
        is_number = isinstance(self.freeze, int) and self.freeze >= 0
        if not is_number and self.freeze not in (None, BACKBONE, FEATURES):
            raise ValueError(f"--freeze: expected {FEATURES}, {BACKBONE} or a number of blocks, got {self.freeze!r}")
        if self.freeze is not None and self.lora_rank:
            raise ValueError("--lora_rank: expected it without --freeze")

    @property
    def freezes_features(self) -> bool:
        """Whether features are computed once, and the model is trained on them."""
        return self.freeze == FEATURES


@contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Turns what comes of loading a model, anything where it is damaged, into a ValueError with its name."""
    try:
        yield
    except (ValueError, ImportError):
        raise
    except Exception as error:
        message = f"expected a folder or Hub id of a classifier, got {name}: {type(error).__name__}: {error}"
        raise ValueError(message) from error


def build_processor(arguments: ModelArguments, source: str | Path, config: FALConfig) -> FALVideoProcessor:
    """The checkpoint's processor, or a new one for a configuration by itself, of the sizes that arguments give."""
    changes = _size_of_clips(arguments.num_frames, arguments.image_size)
    if arguments.frame_interval_seconds or arguments.frame_stride or arguments.spread_frames:
        changes["frame_interval_seconds"] = arguments.frame_interval_seconds
        changes["frame_stride"] = arguments.frame_stride
    if arguments.config_name in PRESETS or _has_configuration_only(arguments.config_name):
        return FALVideoProcessor(**{**_size_of_clips(config.num_frames, config.image_size), **changes})
    revision = arguments.model_revision
    processor = FALVideoProcessor.from_pretrained(source, revision=revision, **changes)
    return processor  # pyright: ignore[reportReturnType]  # a pair only where it is asked for


def _has_configuration_only(name: str | None) -> bool:
    """Whether a name is that of a folder without a processor."""
    return (
        name is not None
        and (Path(name) / CONFIG_NAME).is_file()
        and not any((Path(name) / file).is_file() for file in (VIDEO_PROCESSOR_NAME, IMAGE_PROCESSOR_NAME))
    )


def _size_of_clips(num_frames: int | None, image_size: int | Sequence[int] | None) -> dict[str, Any]:
    sizes: dict[str, Any] = {"num_frames": num_frames} if num_frames else {}
    if image_size:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        sizes |= {"size": {"shortest_edge": max(height, width)}, "crop_size": {"height": height, "width": width}}
    return sizes


def build_model(
    arguments: ModelArguments, source: str | Path, *, labels: Sequence[str], problem_type: str
) -> FALVideoClassifierForVideoClassification:
    """
    The classifier for these labels. A checkpoint of the same labels keeps its head and their order; another head is
    drawn anew, and so are the weights of labels as tokens where the arguments or other labels change these. A head of
    similarity stays, and is given the embeddings of other labels. A temperature that calibrated a checkpoint is of no
    use to other weights, and becomes 1.

    Raises:
        ValueError: weights other than those are missing or of another shape, the arguments contradict one another, or
            there is nothing to embed other labels.
    """
    old = _read_config(arguments, source)
    is_open = old.classifier_type == "similarity"
    if arguments.label_prompt is not None and not is_open:
        raise ValueError("--label_prompt: expected classifier_type similarity with it, got a head of its own labels")
    fields: dict[str, Any] = {"problem_type": problem_type, "temperature": FALConfig.temperature}
    if old.temperature != FALConfig.temperature:
        PartialState()  # the logger asks for it
        logger.warning(
            f"temperature: {old.temperature:g}, of the checkpoint's calibration, becomes {FALConfig.temperature:g}; "
            "calibrate what is trained by `fal evaluate --calibrate`"
        )
    if arguments.drop_path_rate is not None:
        fields["drop_path_rate"] = arguments.drop_path_rate
    if arguments.adaptive_patches is not None:
        fields |= {"patch_layout": "adaptive", "patch_share": arguments.adaptive_patches, "patch_threshold": None}
    known = label_indices(old)
    if arguments.config_name or sorted(known) != sorted(labels):
        known = {label: index for index, label in enumerate(labels)}
        fields |= {"id2label": dict(enumerate(labels)), "label2id": known}
    of_labels, embeddings = label_fields(old, arguments, sorted(known, key=known.__getitem__))
    config = _change(old, **fields, **of_labels)
    if arguments.config_name:
        model = FALVideoClassifierForVideoClassification(config)
    else:
        model = _load_weights(source, arguments, old, config)
    if is_open:
        _embed_labels(model, arguments, old, embeddings)
    elif embeddings is not None:
        set_label_embeddings(model, embeddings)
    return model


def _embed_labels(
    model: FALVideoClassifierForVideoClassification,
    arguments: ModelArguments,
    old: FALConfig,
    embeddings: torch.Tensor | None,
) -> None:
    """Gives the labels of a model their embeddings, from a file or by its text tower; those of a checkpoint it has."""
    config = model.config
    has_names = not arguments.config_name and config.label_space.names == old.label_space.names
    if has_names and embeddings is None and arguments.label_prompt in (None, old.label_prompt):
        return
    if embeddings is None and model.text_encoder is None:
        raise ValueError(
            f"{shorten(config.label_space.names)}: expected --label_embeddings, or a text tower beside the "
            "checkpoint, as a CLIP has that `fal convert` has converted; a head of similarity needs either"
        )
    labels = cast(dict[int, str], config.id2label)
    names = [labels[number] for number in range(len(labels))]
    model.set_labels(names, embeddings, arguments.label_prompt, config.label_hierarchy)


def _read_config(arguments: ModelArguments, source: str | Path) -> FALConfig:
    """That of the checkpoint, or of the name by which a model from nothing is asked for, with its changes."""
    name = arguments.config_name
    if name is None:
        return FALConfig.from_pretrained(source, revision=arguments.model_revision)
    config = FALConfig.from_preset(name) if name in PRESETS else FALConfig.from_pretrained(name)
    if arguments.config_overrides:
        config.update_from_string(arguments.config_overrides)
    return _change(
        config, **{key: value for key in ("num_frames", "image_size") if (value := getattr(arguments, key))}
    )


def _change(config: FALConfig, **fields) -> FALConfig:
    """The configuration with other values of some fields; those that contradict others are a ValueError."""
    try:
        return FALConfig(**{**config.to_dict(), **fields})
    except StrictDataclassError as error:
        raise ValueError(" ".join(str(error.__cause__ or error).split())) from error


def _load_weights(
    source: str | Path, arguments: ModelArguments, old: FALConfig, config: FALConfig
) -> FALVideoClassifierForVideoClassification:
    """The weights of a checkpoint with the configuration `old`, for another; what may be new is drawn."""
    is_open = config.classifier_type == "similarity"
    if is_open and config.label_embedding_size != old.label_embedding_size:
        raise ValueError(
            f"{arguments.label_embeddings}: expected embeddings of {old.label_embedding_size} numbers, as the "
            f"checkpoint's are, got {config.label_embedding_size}"
        )
    loaded = FALVideoClassifierForVideoClassification.from_pretrained(
        source,
        config=config,
        revision=arguments.model_revision,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    model, report = loaded  # pyright: ignore[reportGeneralTypeIssues]  # the hint leaves out the loading info
    unfit = [*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])]
    keeps_tokens = all(getattr(config, name) == getattr(old, name) for name in LABEL_FIELDS)
    drawn = (*(() if is_open else ("classifier.",)), *(() if keeps_tokens else LABEL_WEIGHTS))
    drawn += () if config.patch_layout == old.patch_layout else (CELL_WEIGHTS,)  # which start at zero
    unfit = sorted(name for name in unfit if not name.startswith(drawn))
    if unfit:
        raise ValueError(f"{source}: expected the weights of its configuration, {unfit[0]} is missing or differs")
    if not is_open and old.label_space.names != config.label_space.names:
        _forget_labels(model, old)
    return model


def _forget_labels(model: FALVideoClassifierForVideoClassification, old: FALConfig) -> None:
    """Draws anew what was read for as many other labels: the Linear that scores them, and their embeddings."""
    config = model.config
    if old.num_labels == config.num_labels and old.id2label != config.id2label:
        head = cast(nn.Linear, getattr(model.classifier, "out_proj", model.classifier))
        nn.init.trunc_normal_(head.weight, std=config.initializer_range)
        nn.init.zeros_(head.bias)
    if "none" not in (old.label_attention, config.label_attention):
        size = len(config.label_space.names), config.label_embedding_size
        set_label_embeddings(model, nn.init.trunc_normal_(torch.empty(size), std=config.initializer_range))


def find_source(arguments: ModelArguments, output_dir: Path) -> str | Path:
    """
    The weights to start from, or the configuration of a model from nothing. Weights of another layout (an image ViT,
    say) or of another size are converted first, into the output folder.
    """
    if arguments.config_name:
        return arguments.config_name
    source = arguments.model_name_or_path or DEFAULT_CHECKPOINT
    if is_read_as_it_is(source, arguments):
        return source
    converted = output_dir / START_FOLDER
    if PartialState().is_main_process:
        # A time table of zeros would hide the order of frames at first, and training can stay there.
        options = ConversionOptions(
            revision=arguments.model_revision,
            num_frames=arguments.num_frames,
            image_size=arguments.image_size,
            time_table="normal",
            overwrite=converted.exists(),
        )
        convert(source, converted, options)
    PartialState().wait_for_everyone()
    return converted


def is_read_as_it_is(source: str | Path, arguments: ModelArguments) -> bool:
    """Whether `from_pretrained` reads the weights, and their tables have the size that is asked for."""
    if arguments.num_frames or arguments.image_size or Path(source).is_file():
        return False
    config, _ = PreTrainedConfig.get_config_dict(source, revision=arguments.model_revision)
    return config.get("model_type") in ("fal", "timesformer")


def choose_trained_parameters(model: FALVideoClassifierForVideoClassification, arguments: ModelArguments) -> nn.Module:
    """Freezes what the arguments say; with LoRA, returns the model with adapters, of which only they are trained."""
    trained = add_lora(model, arguments) if arguments.lora_rank else model
    for part in _find_frozen(model, arguments.freeze):
        part.requires_grad_(False)
    if model.config.problem_type == SINGLE_LABEL:  # softmax does not see the bias: rounding alone would move it
        for name, parameter in trained.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not name.endswith("logit_bias"))
    return trained


def _find_frozen(model: FALVideoClassifierForVideoClassification, freeze: int | str | None) -> list[nn.Module]:
    fal, num_layers = model.fal, len(model.fal.layers)
    if freeze is None:
        return []
    if not isinstance(freeze, int):
        return [fal.embeddings, fal.layers, fal.layernorm]
    if freeze > num_layers:
        raise ValueError(f"--freeze: expected at most {num_layers}, all blocks, got {freeze}")
    return [fal.embeddings, fal.layers[:freeze]]


def add_lora(model: FALVideoClassifierForVideoClassification, arguments: ModelArguments) -> nn.Module:
    """LoRA adapters in every attention step of the features; head and labels as tokens are trained as a whole."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("--lora_rank needs peft, which is not installed: pip install peft") from error
    of_labels = [f"label_layers.{index}" for index in range(len(model.fal.label_layers))]
    if model.label_head is not None:
        of_labels += ["label_embeddings", "label_head"]
    lora = LoraConfig(
        r=arguments.lora_rank,
        lora_alpha=arguments.lora_alpha,
        target_modules=LORA_TARGETS,
        modules_to_save=["classifier", *of_labels],
    )
    return get_peft_model(model, lora)


def without_adapters(model: FALVideoClassifierForVideoClassification) -> FALVideoClassifierForVideoClassification:
    """The plain classifier, into which the LoRA adapters of PEFT's wrapper, where it comes in one, are merged."""
    merge = getattr(model, "merge_and_unload", None)
    return model if merge is None else merge()
