"""The processes of a launcher, as each of them sees them."""

import pytest
import torch

from fal_hf.bulk.inputs import VideoInput
from fal_hf.bulk.processes import Processes

VIDEOS = [VideoInput(f"{number}.mp4", f"/{number}.mp4", None) for number in range(7)]


def test_without_a_launcher_there_is_one_process_that_labels_all(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    alone = Processes.launched()
    assert alone == Processes(index=0, count=1, local_index=0)
    assert alone.share(VIDEOS) == VIDEOS and alone.device is None
    with alone.joined() as wait_for_all:
        wait_for_all()
    assert not torch.distributed.is_initialized()


def test_shares_hold_each_video_once():
    shares = [Processes(index=index, count=3).share(VIDEOS) for index in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    assert sorted((video for share in shares for video in share), key=VIDEOS.index) == VIDEOS


@pytest.mark.parametrize(("local_index", "device"), [(0, "cuda:0"), (3, "cuda:1")])
def test_processes_take_turns_with_the_gpus_of_their_machine(monkeypatch, local_index, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": local_index}.items():
        monkeypatch.setenv(name, str(value))
    assert Processes.launched().device == device


def test_a_group_that_is_there_already_is_left_alone(monkeypatch):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with Processes(count=2).joined() as wait_for_all:  # the group itself knows that it is one process
            wait_for_all()
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()
