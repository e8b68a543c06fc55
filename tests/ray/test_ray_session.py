import pytest

from stale_runtime import Bundle
from stale_runtime.errors import BackendError
from stale_runtime.ray_data.ray_session import RayResources
from stale_runtime.video.vision_encoder import VisionEncoder
from tests.ray.conftest import BUNDLE


def test_there_are_no_more_actors_than_cpus_or_gpus_are_enough_for() -> None:
    resources = RayResources(cpus=16, gpus=2)
    assert [resources.most_actors(share) for share in (0, 0.5, 2, 0.01)] == [16, 4, 1, 16]
    with pytest.raises(BackendError, match="Ray has 0 GPUs"):
        RayResources(cpus=16, gpus=0).most_actors(0.5)


def test_a_vision_tower_does_not_quietly_take_the_cpu_instead_of_a_gpu() -> None:
    with pytest.raises(BackendError, match="not CUDAExecutionProvider; install onnxruntime-gpu"):
        VisionEncoder.open(Bundle(BUNDLE), processor="cuda")
