"""To the Hub and back: the real `huggingface_hub` client against a stand-in of the Hub on the loopback address.

`huggingface_hub` reads its environment when it is imported. The functions of the first part therefore run in processes
of their own, which begin with the stand-in's address in their environment.
"""

import contextlib
import io
import multiprocessing
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from hub_stand_in import HubStandIn, Repository
from huggingface_hub import HfApi
from media_files import moving_frames, write_video
from tiny_clip import write_open_checkpoint
from tiny_fal import random_clip, tiny_config, tiny_model
from transformers import (
    AutoImageProcessor,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    TimesformerConfig,
    TimesformerForVideoClassification,
    VideoMAEImageProcessor,
)

from fal_hf import FALImageProcessor, FALVideoClassifierForVideoClassification, FALVideoProcessor, VideoLabeler
from fal_hf.cli import main
from fal_hf.export import ExportOptions, export_model
from fal_hf.hub.model_card import write_model_card
from fal_hf.hub.publish import add_code, push_folder

USER, TOKEN = "someone", "hf_valid"

# What the client processes do


def clip() -> torch.Tensor:
    return random_clip(tiny_config())


def logits(model: FALVideoClassifierForVideoClassification) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(clip()).logits


def push(*args, **kwargs) -> dict:
    commit = push_folder(*args, **kwargs)
    return {"oid": commit.oid, "pr_revision": commit.pr_revision}


def upload(folder: str, repo_id: str) -> None:
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder)


def list_branches(repo_id: str) -> list[str]:
    return [branch.name for branch in HfApi().list_repo_refs(repo_id).branches]


def who_am_i(token: str | None = None) -> str:
    return HfApi().whoami(token)["name"]


def load_logits(repo_id: str, *, labels: list[str] | None = None, **kwargs) -> torch.Tensor:
    model = FALVideoClassifierForVideoClassification.from_pretrained(repo_id, **kwargs)
    if labels is not None:
        model.set_labels(labels)
    return logits(model)


def load_by_auto_classes(repo_id: str, frames, **kwargs) -> dict[str, torch.Tensor]:
    model = AutoModelForVideoClassification.from_pretrained(repo_id, **kwargs)
    processors = {
        "image": AutoImageProcessor.from_pretrained(repo_id, **kwargs),
        "video": AutoVideoProcessor.from_pretrained(repo_id, **kwargs),
    }
    pixels = {name: part(list(frames), return_tensors="pt")["pixel_values"] for name, part in processors.items()}
    return {"logits": logits(model), **pixels}


def label_with(repo_id: str, video: str, **kwargs) -> str:
    return VideoLabeler.from_pretrained(repo_id, device="cpu", **kwargs)(video).labels[0].label


def run_fal(*arguments: str) -> tuple[int, str]:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        status = main(list(arguments))
    return status, errors.getvalue()


def push_by_parts(folder: str, repo_id: str, **kwargs) -> None:
    FALVideoClassifierForVideoClassification.from_pretrained(folder).push_to_hub(repo_id, **kwargs)
    FALImageProcessor.from_pretrained(folder).push_to_hub(repo_id, **kwargs)
    FALVideoProcessor.from_pretrained(folder).push_to_hub(repo_id, **kwargs)


# The processes


@pytest.fixture(scope="module")
def hub():
    with HubStandIn({TOKEN: USER, "hf_other": "other"}) as stand_in:
        yield stand_in


@contextlib.contextmanager
def client_process(hub: HubStandIn, cache: Path, *, offline: bool = False):
    """A function that runs another one, with its arguments, in a process with the stand-in's address."""
    environment = hub.environment(token=TOKEN, cache=cache, offline=offline)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            pool.submit(int).result()
        yield lambda function, *args, **kwargs: pool.submit(function, *args, **kwargs).result()


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub_cache")


@pytest.fixture(scope="module")
def client(hub, cache) -> Callable:
    with client_process(hub, cache) as run:
        yield run


@pytest.fixture(scope="module")
def offline_client(hub, cache) -> Callable:
    """Another process with the same cache and HF_HUB_OFFLINE=1."""
    with client_process(hub, cache, offline=True) as run:
        yield run


@pytest.fixture
def folder(tiny_checkpoint, tmp_path) -> Path:
    """A complete FAL folder: weights, processors, card, code."""
    folder = tmp_path / "fal"
    shutil.copytree(tiny_checkpoint, folder)
    add_code(folder)
    write_model_card(folder, license="mit", limits="Random weights.")
    return folder


@pytest.fixture(scope="module")
def pushed(hub, client, tiny_checkpoint) -> str:
    """The id of a repository with the tiny checkpoint."""
    client(push, tiny_checkpoint, f"{USER}/pushed")
    return f"{USER}/pushed"


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> str:
    return str(write_video(tmp_path_factory.mktemp("video") / "video.mp4", moving_frames(12)))


def since(hub: HubStandIn, start: int) -> list[str]:
    return [f"{request.method} {request.path}" for request in hub.requests[start:]]


# Pushing


def test_a_folder_is_pushed_in_one_commit_and_is_what_was_in_it(hub, client, folder):
    answer = client(push, folder, "fal-one-commit", private=True)
    repository = hub.repositories[f"{USER}/fal-one-commit"]
    head, first = repository.refs["main"].history()
    assert repository.private and head.oid == answer["oid"] and head.title == "Upload FAL"
    assert first.title == "initial commit"
    local = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: file.content for name, file in head.files.items() if name != ".gitattributes"} == local
    assert {"README.md", "config.json", "modeling_fal.py", "model.safetensors"} <= local.keys()
    assert [name for name, file in head.files.items() if file.is_lfs] == ["model.safetensors"]


def test_the_token_of_the_environment_goes_to_the_hub_and_not_to_the_storage(hub, client, folder):
    start = len(hub.requests)
    assert client(who_am_i) == USER
    client(push, folder, "fal-token", private=True)
    client(load_logits, f"{USER}/fal-token")
    requests = hub.requests[start:]
    assert {request.token for request in requests if request.path.startswith("/api/models/")} == {TOKEN}
    assert {request.token for request in requests if "/resolve/" in request.path} == {TOKEN}
    storage = [request for request in requests if request.path.startswith("/storage/")]
    assert storage and {request.token for request in storage} == {None}


def test_pushing_again_changes_only_what_changed(hub, client, folder):
    repo_id = f"{USER}/fal-again"
    first = client(push, folder, repo_id)
    assert client(push, folder, repo_id) == first
    assert len(hub.repositories[repo_id].refs["main"].history()) == 2
    write_model_card(folder, license="mit", limits="Still random weights.")
    start = len(hub.requests)
    second = client(push, folder, repo_id, commit_message="Better card")
    head = hub.repositories[repo_id].refs["main"]
    assert head.oid == second["oid"] and head.title == "Better card" and head.changed == {"README.md"}
    assert not any(request.startswith("PUT") for request in since(hub, start))


def test_weights_that_are_gone_from_the_folder_leave_the_repository(hub, client, folder, tmp_path):
    repo_id = f"{USER}/fal-shards"
    client(push, folder, repo_id)
    sharded = tmp_path / "sharded"
    shutil.copytree(folder, sharded)
    (sharded / "model.safetensors").unlink()
    other = tiny_model(seed=1)
    other.save_pretrained(sharded, max_shard_size="20KB")
    client(push, sharded, repo_id)
    assert "model.safetensors" not in hub.repositories[repo_id].refs["main"].files
    torch.testing.assert_close(client(load_logits, repo_id), logits(other))


def test_a_text_tower_goes_along_and_leaves_with_the_model_that_had_it(hub, client, tmp_path):
    repo_id, labels = f"{USER}/fal-open", ["a dog runs", "a car turns"]
    folder = write_open_checkpoint(tmp_path / "open", labels)
    client(push, folder, repo_id)
    local = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert hub.repositories[repo_id].refs["main"].files.keys() == local | {".gitattributes"}
    expected = FALVideoClassifierForVideoClassification.from_pretrained(folder)
    expected.set_labels(["rain"])
    torch.testing.assert_close(client(load_logits, repo_id, labels=["rain"]), logits(expected))
    tiny_model().save_pretrained(tmp_path / "linear")
    client(push, tmp_path / "linear", repo_id)
    assert not any(name.startswith("text/") for name in hub.repositories[repo_id].refs["main"].files)


def test_a_branch_and_a_pull_request_leave_main_as_it_is(client, folder):
    repo_id = f"{USER}/fal-branches"
    client(push, folder, repo_id)
    expected = client(load_logits, repo_id)
    for seed, arguments in enumerate([{"revision": "next"}, {"create_pr": True}], start=1):
        other = tiny_model(seed=seed)
        other.save_pretrained(folder)
        answer = client(push, folder, repo_id, **arguments)
        revision = answer["pr_revision"] or "next"
        torch.testing.assert_close(client(load_logits, repo_id, revision=revision), logits(other))
        torch.testing.assert_close(client(load_logits, repo_id, revision=answer["oid"]), logits(other))
    assert answer["pr_revision"] == "refs/pr/1"
    assert client(list_branches, repo_id) == ["main", "next"]
    torch.testing.assert_close(client(load_logits, repo_id), expected)


def test_somebody_else_s_repository_takes_a_pull_request_but_no_commit(hub, client, folder, pushed):
    refs = hub.repositories[pushed].refs
    hub.repositories["other/fal"] = Repository("other/fal", False, dict(refs))
    assert client(push, folder, "other/fal", create_pr=True)["pr_revision"] == "refs/pr/1"
    assert "README.md" in hub.repositories["other/fal"].refs["refs/pr/1"].files
    with pytest.raises(OSError, match="403"):
        client(push, folder, "other/fal")
    assert hub.repositories["other/fal"].refs["main"] == refs["main"]


def test_push_to_hub_of_transformers_gives_a_repository_that_loads(hub, client, tiny_checkpoint, video):
    repo_id = f"{USER}/fal-by-parts"
    client(push_by_parts, str(tiny_checkpoint), repo_id, private=True)
    assert hub.repositories[repo_id].private
    seen = client(load_by_auto_classes, repo_id, moving_frames(4))
    expected = load_by_auto_classes(str(tiny_checkpoint), moving_frames(4))
    assert seen.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(seen[name], tensor)
    assert client(label_with, repo_id, video) == label_with(str(tiny_checkpoint), video)


# Loading


def test_every_part_loads_by_its_hub_id(client, pushed, tiny_checkpoint):
    frames = moving_frames(4)
    seen, expected = (
        client(load_by_auto_classes, pushed, frames),
        load_by_auto_classes(str(tiny_checkpoint), frames),
    )
    for name, tensor in expected.items():
        torch.testing.assert_close(seen[name], tensor)
    torch.testing.assert_close(client(load_logits, pushed), expected["logits"])


def test_the_cache_serves_without_the_hub(hub, client, offline_client, pushed, tiny_checkpoint, video):
    expected = load_by_auto_classes(str(tiny_checkpoint), moving_frames(4))
    client(load_by_auto_classes, pushed, moving_frames(4))
    start = len(hub.requests)
    for run, arguments in ((client, {"local_files_only": True}), (offline_client, {})):
        seen = run(load_by_auto_classes, pushed, moving_frames(4), **arguments)
        for name, tensor in expected.items():
            torch.testing.assert_close(seen[name], tensor)
        assert run(label_with, pushed, video, **arguments) == label_with(str(tiny_checkpoint), video)
    assert since(hub, start) == []


def test_loading_again_downloads_nothing(hub, client, pushed):
    client(load_logits, pushed)
    start = len(hub.requests)
    client(load_logits, pushed)
    assert not any(request.startswith("GET /storage") for request in since(hub, start))


def test_a_renamed_repository_loads_by_its_old_name(hub, client, pushed):
    hub.renamed[f"{USER}/old-name"] = pushed
    torch.testing.assert_close(client(load_logits, f"{USER}/old-name"), client(load_logits, pushed))


def test_a_timesformer_repository_loads(client, tmp_path, video):
    """With the image processor of VideoMAE, which TimeSformer repositories have."""
    config = TimesformerConfig(
        image_size=16, patch_size=4, num_frames=4, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=3,
    )  # fmt: skip
    model = TimesformerForVideoClassification(config)
    model.save_pretrained(tmp_path)
    VideoMAEImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    client(push, tmp_path, "timesformer")
    torch.testing.assert_close(client(load_logits, f"{USER}/timesformer"), logits(model), atol=1e-5, rtol=1e-5)
    assert client(label_with, f"{USER}/timesformer", video).startswith("LABEL_")


# Errors that say what to do


def assert_says(text: str, pattern: str):
    """The pattern is in the text, line ends aside."""
    assert re.search(pattern, " ".join(text.split())), text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repo_id": f"{USER}/missing"}, "not a valid model identifier.*hf auth login"),
        ({"repo_id": f"{USER}/pushed", "revision": "missing"}, "missing is not a valid git identifier"),
        ({"repo_id": f"{USER}/not-cached", "token": "hf_wrong"}, "Invalid credentials in Authorization header"),
        ({"repo_id": f"{USER}/not-cached", "local_files_only": True}, "couldn't find them in the cached files"),
    ],
    ids=["no repository", "no revision", "bad token", "not in the cache"],
)
def test_what_cannot_be_loaded_says_why(hub, client, pushed, video, arguments, message):
    hub.repositories[f"{USER}/not-cached"] = hub.repositories[pushed]
    for function, more in ((load_logits, {}), (label_with, {"video": video})):
        with pytest.raises(OSError) as error:
            client(function, **arguments, **more)
        assert_says(str(error.value), message)


def test_what_is_not_in_the_cache_offline_says_so(offline_client, video):
    with pytest.raises(OSError, match="offline mode"):
        offline_client(load_logits, f"{USER}/not-cached")
    status, errors = offline_client(run_fal, "label", video, "--model", f"{USER}/not-cached")
    assert status == 2 and len(errors.splitlines()) == 1
    assert_says(errors, "fal: cannot load the model someone/not-cached: .*cached files.*offline mode")


def test_a_token_that_is_none_says_so(client, folder):
    with pytest.raises(OSError, match="Invalid user token"):
        client(who_am_i, "hf_wrong")
    with pytest.raises(OSError, match="Invalid credentials in Authorization header"):
        client(push, folder, "fal-wrong-token", token="hf_wrong")


def test_a_private_repository_is_not_there_without_its_token(client, folder):
    client(push, folder, "fal-private", private=True)
    with pytest.raises(OSError, match="not a valid model identifier"):
        client(load_logits, f"{USER}/fal-private", token="hf_other")
    assert client(load_logits, f"{USER}/fal-private").shape == (2, 5)


def test_fal_label_takes_a_hub_id_and_says_in_one_line_why_not(client, pushed, video):
    assert client(run_fal, "label", video, "--model", pushed, "--device", "cpu")[0] == 0
    status, errors = client(run_fal, "label", video, "--model", f"{USER}/missing")
    assert status == 2 and len(errors.splitlines()) == 1
    assert_says(errors, "fal: cannot load the model someone/missing: .*missing is not a local folder.*hf auth login")


def test_a_public_repository_is_not_taken_for_a_private_one(hub, client, folder):
    client(push, folder, "fal-visible")
    start = len(hub.requests)
    (folder / "secret.txt").write_text("weights of a secret kind")
    with pytest.raises(ValueError, match="expected a private repository, got one that exists and is public"):
        client(push, folder, "fal-visible", private=True)
    assert not any("commit" in request for request in since(hub, start))


def test_an_exported_folder_labels_by_its_hub_id(client, offline_client, tiny_checkpoint, video, tmp_path):
    options = ExportOptions(formats=("torch",), precisions=("float32", "int8"), check=(video,), force=True)
    export_model(tiny_checkpoint, tmp_path / "export", options)
    client(upload, str(tmp_path / "export"), f"{USER}/exported")
    for name in ("torch-float32", "torch-int8"):
        expected = label_with(tmp_path / "export", video, runtime=name)
        assert client(label_with, f"{USER}/exported", video, runtime=name) == expected
        assert offline_client(label_with, f"{USER}/exported", video, runtime=name) == expected
    assert client(run_fal, "label", video, "--model", f"{USER}/exported", "--runtime", "torch-int8") == (0, "")


def test_a_card_that_the_hub_refuses_is_an_error_before_anything_is_uploaded(hub, client, folder):
    (folder / "README.md").write_text("---\nlicense: my-own\n---\n")
    with pytest.raises(ValueError, match="license"):
        client(push, folder, "fal-bad-card")
    assert len(hub.repositories[f"{USER}/fal-bad-card"].refs["main"].history()) == 1


def test_what_is_no_checkpoint_is_not_pushed(tmp_path, folder):
    with pytest.raises(ValueError, match=r"config\.json and weights in safetensors"):
        push_folder(tmp_path, "nothing")
    with pytest.raises(ValueError, match="revision or create_pr"):
        push_folder(folder, "something", revision="next", create_pr=True)
