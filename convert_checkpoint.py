#!/usr/bin/env python
"""
Converts a TimeSformer or image-ViT checkpoint to a FAL folder, and pushes it to the Hub.

    python convert_checkpoint.py TimeSformer_divST_8x32_224_K400.pyth --output fal-k400 --labels kinetics400.csv
    python convert_checkpoint.py google/vit-base-patch16-224 --output fal-vit --num-frames 8 --new-head --labels my.txt
    python convert_checkpoint.py SVECTOR-CORPORATION/FAL --output fal --push-to-hub me/fal --with-code

The source is recognised by its contents: the TimeSformer reference's .pyth files, TimeSformer and ViT folders or Hub
ids of transformers, state dicts of timm, DeiT (without distillation) and DINO, FAL folders; safetensors or pickles,
which are never allowed to run code. What FAL cannot represent exactly is refused by name. The written folder is loaded
again and compared with the source's model; where they differ, nothing is written.
"""

import argparse
import sys
from collections.abc import Sequence

ATTENTION_TYPES = ("divided_space_time", "space_only", "joint_space_time", "sparse_local_global", "axial")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    summary, *description = __doc__.strip().split("\n\n")
    parser = argparse.ArgumentParser(
        prog="convert_checkpoint.py",
        description="\n\n".join([summary, *description]),
        epilog="Exit status: 0, 1 if the checkpoint was not converted or not pushed, 2 for wrong usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="file, folder or Hub id of the checkpoint")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write; must not exist or be empty")
    parser.add_argument("--overwrite", action="store_true", help="replace a FAL folder at --output")
    add_model_options(parser.add_argument_group("the model"))
    add_pixel_options(parser.add_argument_group("labels and pixels"))
    add_output_options(parser.add_argument_group("the folder"))
    add_hub_options(parser.add_argument_group("the Hub"))
    return parser


def add_model_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--attention-type",
        choices=ATTENTION_TYPES,
        help="scheme of an inflated image model (default: divided_space_time; video models keep theirs)",
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
        choices=["smooth", "nearest"],
        default="smooth",
        help="how tables get to other sizes: bicubic and linear, or nearest as the reference does (default: smooth)",
    )
    group.add_argument(
        "--time-table",
        choices=["zero", "normal"],
        default="zero",
        help="start of a time table that the source has not; training that tells the order of frames wants normal "
        "(default: zero)",
    )
    group.add_argument(
        "--num-attention-heads",
        type=positive_int,
        metavar="N",
        help="for a source without a configuration and of an unusual width",
    )
    group.add_argument("--new-head", action="store_true", help="leave the source's head out and draw a new one")


def add_pixel_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--labels", metavar="FILE", help="names of the classes: .json, .csv or .txt")
    group.add_argument("--bgr", action="store_true", help="the weights expect BGR (the reference's of SSv2 do)")
    group.add_argument(
        "--preprocessing",
        choices=["timesformer", "imagenet", "vit"],
        help="mean, deviation and resampling: 0.45 and 0.225; ImageNet's (DeiT, DINO); 0.5 and 0.5 (default: the "
        "source's, or its family's)",
    )


def add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="precision of the weights (default: the source's)"
    )
    group.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file of weights (default: 5GB)")
    group.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        metavar="SHARE",
        help="largest difference from the source's results, as a share of the largest of them (default: 1e-4)",
    )
    group.add_argument("--license", default="unknown", metavar="ID", help="the card's licence (default: unknown)")
    group.add_argument(
        "--base-model", metavar="HUB_ID", help="the card's base model (default: a Hub id given as SOURCE)"
    )
    group.add_argument(
        "--with-code", action="store_true", help="add the code that trust_remote_code=True runs without fal_hf"
    )


def add_hub_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--source-revision", metavar="REVISION", help="branch, tag or commit of a Hub id as SOURCE")
    group.add_argument("--push-to-hub", metavar="REPO_ID", help="upload the folder in one commit")
    group.add_argument("--private", action="store_true", default=None, help="push to a private repository")
    group.add_argument("--revision", metavar="BRANCH", help="branch to push to (default: main)")
    group.add_argument("--create-pr", action="store_true", help="push as a pull request")


def positive_int(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def image_size(text: str) -> int | tuple[int, int]:
    """`224` or `224x448`, for argparse."""
    sides = tuple(positive_int(side) for side in text.split("x"))
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"expected a side or HEIGHTxWIDTH, got {text}")
    return sides[0] if len(sides) == 1 else sides


def run(arguments: argparse.Namespace) -> None:
    """Converts, prints what was done, and pushes."""
    import torch
    from tqdm import tqdm
    from transformers.utils import logging

    from fal_hf.conversion.converter import STAGES, convert
    from fal_hf.hub.publish import push_folder

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tqdm(total=len(STAGES), file=sys.stderr, disable=None, leave=False, bar_format="{n}/{total} {desc}") as bar:

        def on_stage(stage: str) -> None:
            bar.set_description_str(stage)
            bar.update()

        conversion = convert(
            arguments.source,
            arguments.output,
            revision=arguments.source_revision,
            attention_type=arguments.attention_type,
            num_frames=arguments.num_frames,
            image_size=arguments.image_size,
            time_table=arguments.time_table,
            resize=arguments.resize,
            labels=arguments.labels,
            new_head=arguments.new_head,
            num_attention_heads=arguments.num_attention_heads,
            preprocessing=arguments.preprocessing,
            bgr=arguments.bgr,
            dtype=None if arguments.dtype is None else getattr(torch, arguments.dtype),
            max_shard_size=arguments.max_shard_size,
            license=arguments.license,
            base_model=arguments.base_model,
            repo_id=arguments.push_to_hub,
            with_code=arguments.with_code,
            tolerance=arguments.tolerance,
            overwrite=arguments.overwrite,
            on_stage=on_stage,
        )
    print_table(conversion.summary())
    if arguments.push_to_hub is not None:
        commit = push_folder(
            arguments.output,
            arguments.push_to_hub,
            private=arguments.private,
            revision=arguments.revision,
            create_pr=arguments.create_pr,
            commit_message=f"Converted from {conversion.source_name}",
        )
        print_table({"pushed": commit.pr_url or commit.commit_url})


def print_table(rows: dict[str, str]) -> None:
    for name, text in rows.items():
        print(f"{name:<12}{text}")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns the exit status."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.push_to_hub is None and (arguments.private or arguments.create_pr or arguments.revision):
        parser.error("--private, --revision and --create-pr belong to --push-to-hub")
    try:
        run(arguments)
    except KeyboardInterrupt:
        print("convert_checkpoint.py: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:  # errors of the Hub are OSErrors
        print(f"convert_checkpoint.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
