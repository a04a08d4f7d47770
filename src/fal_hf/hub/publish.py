"""FAL folders to the Hugging Face Hub: the code for `trust_remote_code`, and one commit of all that belongs together.

Reading needs nothing of this: `from_pretrained` takes Hub ids as it takes folders.
"""

import json
import shutil
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, VIDEO_PROCESSOR_NAME

from ..model.configuration_fal import FALConfig
from ..model.text_encoder import TEXT_FOLDER

MODEL_CODE = Path(__file__).parents[1] / "model"

# What stands under "auto_map" in each file: the classes that the Auto classes take from the repository's own code. The
# two of the image processor are in the order that transformers expects: PIL, torchvision.
AUTO_MAPS: dict[str, dict[str, Any]] = {
    CONFIG_NAME: {
        "AutoConfig": "configuration_fal.FALConfig",
        "AutoModel": "modeling_fal.FALModel",
        "AutoModelForVideoClassification": "modeling_fal.FALVideoClassifierForVideoClassification",
    },
    IMAGE_PROCESSOR_NAME: {
        "AutoImageProcessor": [
            "image_processing_pil_fal.FALImageProcessorPil",
            "image_processing_fal.FALImageProcessor",
        ]
    },
    VIDEO_PROCESSOR_NAME: {"AutoVideoProcessor": "video_processing_fal.FALVideoProcessor"},
}
# What a model that takes any labels adds to its configuration: the pipeline that gives it some.
CUSTOM_PIPELINES = {
    "zero-shot-video-classification": {
        "impl": "zero_shot_pipeline.ZeroShotVideoClassificationPipeline",
        "pt": ["AutoModelForVideoClassification"],
    }
}
ENTRY_MODULES = (
    "modeling_fal.py",
    "image_processing_pil_fal.py",
    "video_processing_fal.py",
    "zero_shot_pipeline.py",
)

# The files of weights that transformers looks for. Old ones must not outlive a push: of a single file and shards it
# takes the single file, whichever is newer. Neither must a text tower of another model.
WEIGHTS = (
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model-*.bin",
    "pytorch_model.bin.index.json",
    f"{TEXT_FOLDER}/*",
)


def add_code(folder: str | PathLike) -> None:
    """
    Adds the modelling code to a FAL folder, so that it loads with `trust_remote_code=True` where `fal_hf` is missing.

    AutoConfig, AutoModel, AutoModelForVideoClassification, AutoImageProcessor (both backends) and AutoVideoProcessor
    find their classes in it, and `pipeline("zero-shot-video-classification")` its own for a model with label
    embeddings. Files of an earlier call are replaced.

    Args:
        folder: A folder with a FAL model and its processors, as their `save_pretrained` write it.

    Raises:
        ValueError: if it is not one; nothing is written then.
    """
    folder = Path(folder)
    settings = {name: _read_settings(folder / name) for name in AUTO_MAPS}
    model_type = settings[CONFIG_NAME].get("model_type")
    if model_type != FALConfig.model_type:
        raise ValueError(
            f"{folder}: expected a FAL model, got model_type={model_type!r}; load it with "
            "FALVideoClassifierForVideoClassification and save it with save_pretrained first"
        )
    if settings[CONFIG_NAME].get("classifier_type") == "similarity":
        settings[CONFIG_NAME]["custom_pipelines"] = CUSTOM_PIPELINES
    for module in code_files():
        shutil.copyfile(module, folder / module.name)
    for name, auto_map in AUTO_MAPS.items():
        text = json.dumps({**settings[name], "auto_map": auto_map}, indent=2, sort_keys=True)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")


def code_files() -> list[Path]:
    """The modules of this package that a repository needs to work by itself."""
    entries = [MODEL_CODE / name for name in ENTRY_MODULES]
    imported = (Path(file) for entry in entries for file in get_relative_import_files(entry))
    return sorted({*entries, *imported})


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a JSON file as save_pretrained writes it, got {error}; save the model, a "
            "FALImageProcessor and a FALVideoProcessor into the folder first"
        ) from error


def push_folder(
    folder: str | PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
    commit_message: str = "Upload FAL",
) -> CommitInfo:
    """
    Uploads a folder (model, processors, text tower, card, code) to the Hub in one commit.

    The repository and the branch are made where they are missing. Files that have not changed are not uploaded again,
    and a push that changes nothing makes no commit. Weights and a text tower that the folder has no longer leave the
    repository.

    Args:
        folder: A folder with a model, as `save_pretrained` writes it.
        repo_id: `"name"` or `"namespace/name"`.
        private: Whether a new repository is private; None takes the account's default.
        revision: The branch to commit to; None is the main branch.
        create_pr: Whether to open a pull request on the main branch instead of committing to it.
        token: As everywhere in huggingface_hub; None takes `HF_TOKEN` or the one of `hf auth login`.
        commit_message: The first line of the commit, and the title of the pull request.

    Returns:
        The commit: the new one, or the latest where nothing changed; with `pr_url` where a pull request was opened.

    Raises:
        ValueError: for a folder without a model, for `revision` with `create_pr`, for a card that the Hub refuses, and
            if the repository exists and its visibility is not the one asked for; nothing is uploaded then.
        huggingface_hub.errors.HfHubHTTPError: if the Hub refuses, for want of permission for instance.
    """
    folder = Path(folder)
    if not (folder / CONFIG_NAME).is_file() or not any(folder.glob("model*.safetensors")):
        raise ValueError(
            f"{folder}: expected a folder with {CONFIG_NAME} and weights in safetensors; write it with save_pretrained"
        )
    if create_pr and revision is not None:
        raise ValueError(f"expected a revision or create_pr, got both ({revision!r}): pull requests are on main")
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    _require_visibility(api, repo_id, private)
    if revision is not None and not revision.startswith("refs/"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    return api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message,
        delete_patterns=list(WEIGHTS),
    )


def _require_visibility(api: HfApi, repo_id: str, private: bool | None) -> None:
    """A repository that exists keeps its visibility: what is meant to be private must not end up in a public one."""
    if private is not None and api.model_info(repo_id).private != private:
        expected, got = ("private", "public") if private else ("public", "private")
        raise ValueError(
            f"{repo_id}: expected a {expected} repository, got one that exists and is {got}; change that with "
            f"`hf repos settings {repo_id} --{expected}` or push to another name"
        )


__all__ = ["add_code", "push_folder"]
