"""`fal convert`: checkpoints of other layouts to FAL folders."""

import argparse
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, get_args

from ..conversion.errors import ConversionError
from ..conversion.options import ConversionOptions, Dtype, Preprocessing, Resize, TimeTable
from ..conversion.sources import require_name
from ..model.attention_schemes import ATTENTION_TYPES
from ..model.label_space import LABEL_ATTENTIONS
from .arguments import filled, non_negative_int, positive_int
from .loading import notice

if TYPE_CHECKING:
    from ..conversion import Conversion

DESCRIPTION = """\
Converts a TimeSformer, image-ViT or CLIP checkpoint to a FAL folder, and pushes it to the Hub.

    {prog} TimeSformer_divST_8x32_224_K400.pyth --output fal-k400 --labels kinetics400.csv
    {prog} google/vit-base-patch16-224 --output fal-vit --num-frames 8 --new-head --labels my.txt
    {prog} openai/clip-vit-base-patch16 --output fal-clip --labels my.txt --prompt "a video of {}"
    {prog} SVECTOR-CORPORATION/FAL --output fal --push-to-hub me/fal --with-code

The source is recognized by its contents: the TimeSformer reference's .pyth files, TimeSformer, ViT and CLIP folders or
Hub ids of transformers, state dicts of timm, DeiT (without distillation) and DINO, FAL folders; safetensors or
pickles, which are never allowed to run code. A CLIP takes any labels, and brings along what embeds them. What FAL
cannot represent exactly is refused by name. The written folder is loaded again and compared with the source's model;
where they differ, nothing is written.
"""
EPILOG = "Exit status: 0, 1 if the checkpoint was not converted or not pushed, 2 for wrong usage."
DEFAULTS = {field.name: field.default for field in fields(ConversionOptions)}


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds `fal convert`."""
    configure(commands.add_parser("convert", help="convert a TimeSformer, image or CLIP checkpoint"))


def configure(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Gives a parser the command's arguments, and `run`, a function of the parsed ones that returns the status."""
    parser.description = DESCRIPTION.replace("{prog}", parser.prog)
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", type=filled, metavar="SOURCE", help="file, folder or Hub id of the checkpoint")
    parser.add_argument(
        "--output", type=filled, required=True, metavar="DIR", help="folder to write; must not exist or be empty"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a FAL folder at --output")
    add_model_options(parser.add_argument_group("the model"))
    add_label_options(parser.add_argument_group("labels as tokens"))
    add_pixel_options(parser.add_argument_group("labels and pixels"))
    add_output_options(parser.add_argument_group("the folder"))
    add_hub_options(parser.add_argument_group("the Hub"))
    parser.set_defaults(parser=parser, run=run)
    return parser


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Adds what the model becomes."""
    group.add_argument(
        "--attention-type",
        choices=ATTENTION_TYPES,
        help="scheme of an inflated image model (default: divided_space_time; video models keep theirs); space_only "
        "where a TimeSformer of the reference could be taken for an image model",
    )
    group.add_argument("--num-frames", type=positive_int, metavar="T", help="frames of a clip (default: the source's)")
    group.add_argument(
        "--image-size",
        type=image_size,
        metavar="PIXELS",
        help="side of a frame, or HEIGHTxWIDTH (default: the source's)",
    )
    group.add_argument(
        "--resize",
        choices=get_args(Resize),
        default=DEFAULTS["resize"],
        help="how tables get to other sizes: bicubic and linear, or nearest as the reference does (default: smooth)",
    )
    group.add_argument(
        "--time-table",
        choices=get_args(TimeTable),
        default=DEFAULTS["time_table"],
        help="start of a time table that the source has not; training that tells the order of frames wants normal "
        "(default: zero)",
    )
    group.add_argument(
        "--num-attention-heads",
        type=positive_int,
        metavar="N",
        help="for a source without a configuration (default: as published models of its width, mostly of 64 channels "
        "each)",
    )
    group.add_argument("--new-head", action="store_true", help="leave the source's head out and draw a new one")


def add_label_options(group: argparse._ArgumentGroup) -> None:
    """Adds what labels are as tokens."""
    group.add_argument(
        "--label-attention",
        choices=LABEL_ATTENTIONS,
        help="makes tokens of the labels, which are to be trained (default: none; a source that has some keeps them)",
    )
    group.add_argument(
        "--label-integration-layer", type=non_negative_int, metavar="N", help="blocks before them (default: 8)"
    )
    group.add_argument(
        "--hierarchy", type=filled, metavar="FILE", help="JSON of label and parent (default: the source's)"
    )
    group.add_argument(
        "--label-embeddings",
        type=filled,
        metavar="FILE",
        help=".safetensors with a row for each label, then for those above them (default: random; of a CLIP, the "
        "texts')",
    )


def add_pixel_options(group: argparse._ArgumentGroup) -> None:
    """Adds what labels and pixels mean."""
    group.add_argument("--labels", type=filled, metavar="FILE", help="names of the classes: .json, .csv or .txt")
    group.add_argument(
        "--prompt",
        type=filled,
        metavar="TEXT",
        help="what stands for a label of a CLIP, with {} in the label's place (default: a video of {}; a FAL folder's "
        "own)",
    )
    group.add_argument("--bgr", action="store_true", help="the weights expect BGR (the reference's of SSv2 do)")
    group.add_argument(
        "--preprocessing",
        choices=get_args(Preprocessing),
        help="mean, deviation and resampling: 0.45 and 0.225; ImageNet's (DeiT, DINO); 0.5 and 0.5; OpenAI's "
        "(CLIP) (default: the source's, or its family's)",
    )


def add_output_options(group: argparse._ArgumentGroup) -> None:
    """Adds what the folder holds."""
    group.add_argument("--dtype", choices=get_args(Dtype), help="precision of the weights (default: the source's)")
    group.add_argument(
        "--max-shard-size",
        default=DEFAULTS["max_shard_size"],
        metavar="SIZE",
        help="of a file of weights (default: 5GB)",
    )
    group.add_argument(
        "--tolerance",
        type=float,
        default=DEFAULTS["tolerance"],
        metavar="SHARE",
        help="largest difference from the source's results, as a share of the largest of them (default: 1e-4)",
    )
    group.add_argument(
        "--license", default=DEFAULTS["license"], metavar="ID", help="the card's license (default: unknown)"
    )
    group.add_argument(
        "--base-model", type=filled, metavar="HUB_ID", help="the card's base model (default: a Hub id given as SOURCE)"
    )
    group.add_argument(
        "--with-code", action="store_true", help="add the code that trust_remote_code=True runs without fal_hf"
    )


def add_hub_options(group: argparse._ArgumentGroup) -> None:
    """Adds where on the Hub the source is and the result goes."""
    group.add_argument(
        "--source-revision", type=filled, metavar="REVISION", help="branch, tag or commit of a Hub id as SOURCE"
    )
    group.add_argument("--push-to-hub", type=filled, metavar="REPO_ID", help="upload the folder in one commit")
    group.add_argument("--private", action="store_true", default=None, help="push to a private repository")
    group.add_argument("--revision", type=filled, metavar="BRANCH", help="branch to push to (default: main)")
    group.add_argument("--create-pr", action="store_true", help="push as a pull request")


def image_size(text: str) -> int | tuple[int, ...]:
    """`224` or `224x448`, for argparse."""
    sides = tuple(positive_int(side) for side in text.split("x"))
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"expected a side or HEIGHTxWIDTH, got {text}")
    return sides[0] if len(sides) == 1 else sides


def run(arguments: argparse.Namespace) -> int:
    """Converts, prints what was done, and pushes; returns the exit status."""
    if arguments.push_to_hub is None and (arguments.private or arguments.create_pr or arguments.revision):
        arguments.parser.error("--private, --revision and --create-pr belong to --push-to-hub")
    program = arguments.parser.prog.split()[0]
    try:
        conversion = convert_with_progress(arguments)
        print_table(conversion.summary())
        if arguments.push_to_hub is not None:
            push(conversion, arguments)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:  # errors of the Hub are OSErrors
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return 0


def convert_with_progress(arguments: argparse.Namespace) -> "Conversion":
    """Converts, and says on a terminal what is being done."""
    require_name(arguments.source)
    with notice(f"{arguments.parser.prog}: loading torch ..."):
        try:
            options = read_options(arguments)
            if options.hierarchy is not None or options.label_embeddings is not None:
                from ..conversion.label_tokens import read_label_files

                read_label_files(options)
        except ConversionError as error:
            arguments.parser.error(str(error))
        from tqdm import tqdm
        from transformers.utils import logging

        from ..conversion.converter import STAGES, convert

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tqdm(total=len(STAGES), file=sys.stderr, disable=None, leave=False, bar_format="{n}/{total} {desc}") as bar:

        def on_stage(stage: str) -> None:
            bar.set_description_str(stage)
            bar.update()

        return convert(arguments.source, arguments.output, options, on_stage=on_stage)


def read_options(arguments: argparse.Namespace) -> ConversionOptions:
    """The options that the command's arguments stand for; most have the same name."""
    renamed = {"revision": arguments.source_revision, "repo_id": arguments.push_to_hub}
    return ConversionOptions(**renamed, **{name: getattr(arguments, name) for name in DEFAULTS if name not in renamed})


def push(conversion: "Conversion", arguments: argparse.Namespace) -> None:
    """Uploads the folder and prints where it is."""
    from ..hub.publish import push_folder

    commit = push_folder(
        conversion.output,
        arguments.push_to_hub,
        private=arguments.private,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
        commit_message=f"Converted from {conversion.source.name}",
    )
    print_table({"pushed": commit.pr_url or commit.commit_url})


def print_table(rows: dict[str, str]) -> None:
    """Prints a name and a text a line."""
    for name, text in rows.items():
        print(f"{name:<12}{text}")
