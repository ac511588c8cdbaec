"""Programs over operators of torch, on the CPU: what the executor for GPUs does but for kernels."""

import io

import numpy as np
import pytest
import torch
from cuda_emulation.programs import check_program
from random_programs import random_image, random_program
from small_packed import small_program
from trained_networks import images, trained

from binseg.compiler.pack import pack
from binseg.compiler.packed import PackedSegmenter
from binseg.errors import BinsegError
from binseg.program.cuda.devices import TorchExecutor
from binseg.program.cuda.network import ProgramNetwork
from binseg.program.interpreter import Interpreter
from binseg.program.program import ProgramError
from binseg.program.rules import RULES

SEEDS = [0, 2, 3, 5, 6, 9, 12, 14]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_value_equals_the_interpreters(seed):
    program, size = random_program(seed)
    check_program(program, [random_image(seed, *size), random_image(seed + 1, *size)], "cpu")


def test_the_programs_use_every_operator():
    used = {operator.kind for seed in SEEDS for operator in random_program(seed)[0].operators}
    assert used == set(RULES)


NETWORKS = [
    ({"bases": 2, "nonlinearity": "prelu"}, "fp32"),
    ({"bases": 3, "head": "fcn8s", "gates": "per_branch", "downsample": "real"}, "int8"),
    ({"bases": 2, "head": "deeplabv3", "output_stride": 16, "nonlinearity": "tanh"}, "bf16"),
    ({"name": "groupnet18_star", "nonlinearity": "rprelu", "threshold": "learnt"}, "int8"),
    ({"name": "groupnet_s8", "head": "unet", "width": 16, "bases": 2, "atrous": "bpac"}, "int8"),
    ({"decomposition": "layer", "bases": 3, "merge": "mean", "head": "fcn16s"}, "bf16"),
    ({"name": "reactnet18", "head": "fcn8s"}, "int8"),
    ({"name": "bireal18", "threshold": "adaptive", "nonlinearity": "hardtanh"}, "fp32"),
    ({"name": "binarydensenet28", "head": "fcn8s"}, "int8"),
    ({"name": "xnornet18", "input_scale": True, "padding_value": 0}, "fp32"),
    ({"name": "bwn18", "head": "fcn16s"}, "bf16"),
]


@pytest.mark.parametrize(("options", "other_layers"), NETWORKS, ids=str)
@torch.inference_mode()
def test_networks_give_libbinsegs_scores(options, other_layers):
    x = images()
    packed = pack(trained(**options), other_layers=other_layers, calibration=[x])
    assert torch.equal(packed.as_torch()(x), packed(x))


def test_the_executor_gives_the_interpreters_class_maps():
    program, size = random_program(3)
    image = random_image(3, *size)
    executor, interpreter = TorchExecutor(program, "cpu"), Interpreter(program)
    np.testing.assert_array_equal(executor.scores(image), interpreter.scores(image))
    for target in (None, (31, 22)):
        expected = interpreter.class_map(image, target)
        np.testing.assert_array_equal(executor.class_map(image, target), expected)
    seconds = executor.operator_seconds(image)
    assert len(seconds) == len(program.operators)
    assert min(seconds) >= 0


def test_an_image_that_does_not_fit_is_an_error():
    program, _ = random_program(0)
    executor = TorchExecutor(program, "cpu")
    with pytest.raises(ProgramError):
        executor.scores(np.zeros((70_000, 1, 3), np.uint8))


class OnTheCpu(TorchExecutor):
    """The executor for GPUs, in numpy."""

    def __init__(self, program, device):
        assert torch.device(device).type == "meta"
        super().__init__(program, "cpu")


def test_a_packed_network_runs_where_its_images_lie(monkeypatch):
    monkeypatch.setattr("binseg.compiler.packed.TorchExecutor", OnTheCpu)
    packed = pack(trained())
    packed.make_ready(torch.device("meta"))
    (on_gpu,) = packed._on_gpus.values()
    images = torch.randint(0, 256, (2, 40, 48, 3), dtype=torch.uint8)
    found = on_gpu.batch_scores(images).permute(0, 3, 1, 2)
    assert torch.equal(found, packed.scores(images.permute(0, 3, 1, 2)))
    packed.make_ready(torch.device("meta"))
    assert list(packed._on_gpus.values()) == [on_gpu], "it is made once"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_its_executor_is_refused_with_the_reason():
    with pytest.raises(BinsegError, match=r"no CUDA device|without CUDA|toolkit"):
        TorchExecutor(small_program(), "cuda")
    with pytest.raises(BinsegError, match="not on meta"):
        TorchExecutor(small_program(), "meta")


def test_a_network_is_exported_saved_loaded_and_run_on_another_batch():
    packed = pack(trained(bases=2, nonlinearity="prelu"))
    assert isinstance(packed, PackedSegmenter)
    x = torch.cat([images(), images()[1:]])
    dynamic = {"x": {0: torch.export.Dim("batch", min=1)}}
    exported = torch.export.export(packed.as_torch(), (x[:2],), dynamic_shapes=dynamic)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    again = torch.export.load(file).module()
    for batch in (x[:1], x):
        assert torch.equal(again(batch).argmax(1), packed(batch).argmax(1))


def test_a_program_is_compiled_to_the_same_scores():
    program, size = random_program(5)
    images = torch.from_numpy(np.stack([random_image(5, *size), random_image(6, *size)]))
    network = ProgramNetwork(program)
    compiled = torch.compile(network, backend="aot_eager")
    assert torch.equal(compiled(images), network(images))
