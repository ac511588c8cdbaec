"""From image to class map: whole, sliding, multi-scale."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from grey_images import PLAIN, GreyNet, image_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from binseg.data.preprocess import Preprocessing, resize_image
from binseg.errors import BinsegError
from binseg.evaluation import protocols, upsample
from binseg.evaluation.protocols import Protocol, segment

SLIDING = Protocol("sliding", window=16, stride=11)
MULTI = Protocol("multi_scale", scales=(0.5, 1.0, 1.5))
CLASSES = 4


def bands(height: int, width: int) -> np.ndarray:
    """Class c in the c-th quarter of the width."""
    columns = np.arange(width) * CLASSES // width
    return np.broadcast_to(columns, (height, width)).astype(np.uint8)


class Blur(nn.Module):
    """A random 5×5 convolution: what it says of a pixel depends on its surroundings."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randn(CLASSES, 3, 5, 5, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, padding=2)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("protocol", [Protocol(), SLIDING, MULTI, Protocol(precision="bf16")])
@pytest.mark.parametrize("shape", [(40, 64), (7, 33), (1, 4), (65, 12)])
def test_size_and_dtype(protocol, shape):
    found = segment(Blur(), noise(*shape), PLAIN, protocol)
    assert found.dtype == np.uint8
    assert found.shape == shape
    assert found.max() < CLASSES


@pytest.mark.parametrize("protocol", [Protocol(), SLIDING])
def test_reads_off_what_is_there(protocol):
    truth = np.random.default_rng(3).integers(0, CLASSES, (37, 45)).astype(np.uint8)
    found = segment(GreyNet(CLASSES), image_of(truth, CLASSES), PLAIN, protocol)
    assert np.array_equal(found, truth)


def test_multi_scale_agrees_away_from_the_borders():
    truth = bands(48, 80)
    found = segment(GreyNet(CLASSES), image_of(truth, CLASSES), PLAIN, MULTI)
    steps = np.abs(np.diff(truth.astype(int), axis=1)).nonzero()[1]
    inside = np.ones(80, dtype=bool)
    for step in np.unique(steps):
        inside[step - 3 : step + 5] = False
    assert np.array_equal(found[:, inside], truth[:, inside])


def test_class_map_of_the_size_asked_for():
    """Labels of twice the network's resolution; both give the same image."""
    truth = bands(30, 40)
    preprocessing = dataclasses.replace(PLAIN, short_side=15)
    found = segment(GreyNet(CLASSES), image_of(truth, CLASSES), preprocessing, size=(60, 80))
    assert found.shape == (60, 80)
    assert (found != bands(60, 80)).mean() < 0.1


def test_network_sees_the_normalised_resized_image():
    seen = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(1, 2, *x.shape[2:])

    preprocessing = Preprocessing(short_side=10)
    image = np.full((20, 40, 3), (10, 100, 200), dtype=np.uint8)
    segment(network, image, preprocessing)
    assert seen[0].shape == (1, 3, 10, 20)
    assert seen[0].dtype == torch.float32
    for channel, value in enumerate((10, 100, 200)):
        expected = (value / 255 - preprocessing.mean[channel]) / preprocessing.std[channel]
        assert seen[0][0, channel].numpy() == pytest.approx(expected, abs=1e-5)


def test_one_window_is_the_whole():
    image = noise(30, 26)
    assert np.array_equal(
        segment(Blur(), image, PLAIN, Protocol("sliding", window=64, stride=64)),
        segment(Blur(), image, PLAIN),
    )


@pytest.mark.parametrize("shape", [(16, 16), (17, 16), (50, 33), (16, 100)])
@pytest.mark.parametrize("stride", [1, 5, 16])
def test_windows_cover_every_pixel_and_are_averaged(shape, stride):
    """The mean over windows of (row in the window, column in it, 1), by explicit loops."""
    window, logits, count = 16, np.zeros((2, *shape)), np.zeros(shape)
    tops, lefts = (sorted({*range(0, side - window, stride), side - window}) for side in shape)
    for top in tops:
        for left in lefts:
            part = (slice(top, top + window), slice(left, left + window))
            count[part] += 1
            logits[0][part] += np.arange(window)[:, None] * 1.01
            logits[1][part] += np.arange(window)
    assert count.all()

    def network(x: Tensor) -> Tensor:
        assert x.shape[2:] == (window, window)
        rows = torch.arange(window).float()
        grid = torch.stack(torch.meshgrid(rows * 1.01, rows, indexing="ij"))
        return grid[None]

    protocol = Protocol("sliding", window=window, stride=stride)
    found = segment(network, noise(*shape), PLAIN, protocol)
    means = logits / count
    clear = np.abs(means[0] - means[1]) > 1e-3
    assert clear.mean() > 0.9
    assert np.array_equal(found[clear], means.argmax(0)[clear])


def test_flipping_makes_multi_scale_symmetric():
    image = noise(24, 31)
    protocol = Protocol("multi_scale", scales=(1.0,), flip=True)
    found = segment(Blur(), image, PLAIN, protocol)
    mirrored = segment(Blur(), image[:, ::-1], PLAIN, protocol)
    assert np.array_equal(mirrored[:, ::-1], found)
    alone = dataclasses.replace(protocol, flip=False)
    assert not np.array_equal(
        segment(Blur(), image[:, ::-1], PLAIN, alone)[:, ::-1], segment(Blur(), image, PLAIN, alone)
    )


def test_multi_scale_averages_probabilities():
    """Two views, one sure of class 1 and one just in favour of 0: the mean of the softmax says
    1, a majority or the mean of clipped votes would not."""

    def network(x: Tensor) -> Tensor:
        sure = x.shape[3] > 10
        logits = torch.zeros(1, 2, *x.shape[2:])
        logits[:, int(sure)] = 8.0 if sure else 0.1
        return logits

    found = segment(network, noise(10, 10), PLAIN, Protocol("multi_scale", scales=(1.0, 2.0)))
    assert (found == 1).all()


def test_bf16_runs_convolutions_in_bf16():
    kinds = []

    class Watched(Blur):
        def forward(self, x: Tensor) -> Tensor:
            kinds.append(super().forward(x).dtype)
            return super().forward(x)

    segment(Watched(), noise(8, 8), PLAIN, Protocol(precision="bf16"))
    segment(Watched(), noise(8, 8), PLAIN)
    assert kinds == [torch.bfloat16, torch.float32]


def test_coarse_logits_are_upsampled():
    def network(x: Tensor) -> Tensor:
        return F.avg_pool2d(GreyNet(CLASSES)(x), 4)

    truth = bands(32, 64)
    for protocol in (Protocol(), Protocol("sliding", window=16, stride=8), MULTI):
        found = segment(network, image_of(truth, CLASSES), PLAIN, protocol)
        assert (found == truth).mean() > 0.85


class TestFaults:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"name": "slidng"}, "did you mean 'sliding'"),
            ({"precision": "fp16"}, "unknown precision"),
            ({"window": 100, "stride": 101}, "stride 101"),
            ({"stride": 0}, "stride 0"),
            ({"scales": ()}, "scales"),
            ({"scales": (1.0, -2.0)}, "scales"),
        ],
    )
    def test_settings_that_make_no_sense(self, arguments, words):
        with pytest.raises(BinsegError, match=words):
            Protocol(**arguments)

    @pytest.mark.parametrize(
        "image", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
    )
    def test_not_a_image(self, image):
        with pytest.raises(ValueError, match="HWC uint8"):
            segment(Blur(), image, PLAIN)

    def test_network_without_a_map(self):
        with pytest.raises(BinsegError, match="NCHW"):
            segment(lambda x: torch.zeros(1, 10), noise(4, 4), PLAIN)

    def test_sides_too_unequal(self):
        with pytest.raises(BinsegError, match="too unequal"):
            segment(Blur(), noise(1, 5000), Preprocessing(short_side=360))

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            torch.OutOfMemoryError("CUDA out of memory"),
        ],
    )
    def test_out_of_memory_says_what_to_do(self, error):
        def network(x: Tensor) -> Tensor:
            raise error

        with pytest.raises(BinsegError, match="sliding"):
            segment(network, noise(4, 4), PLAIN)


class Coarse(nn.Module):
    """A network whose own grid is a quarter as fine, with the method `scores` of packed ones."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("weight", torch.randn(classes, 3, 4, 4, generator=generator))

    def scores(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4)), self.weight, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.scores(x), x.shape[2:], mode="bilinear")


@pytest.mark.parametrize(
    ("protocol", "largest"), [(Protocol(), 1 << 27), (Protocol(), 0), (SLIDING, 0), (MULTI, 0)]
)
@pytest.mark.parametrize("size", [None, (70, 50), (20, 91), (360, 488)])
def test_scores_on_a_coarse_grid_give_the_same_map(monkeypatch, protocol, largest, size):
    """Upsampled at once by the kernel or in strips, or in full by the network itself."""
    monkeypatch.setattr(protocols, "LARGEST_LOGITS", largest)
    network = Coarse()
    found = segment(network, noise(45, 61), PLAIN, protocol, size)
    plain = segment(lambda x: network(x), noise(45, 61), PLAIN, protocol, size)
    assert found.shape == plain.shape == (size or (45, 61))
    assert (found == plain).mean() > 0.999


def test_multi_scale_in_strips_equals_the_sum_of_all(monkeypatch):
    """Against the plain formula in float64, with strips of a few rows and one full-size sum."""
    monkeypatch.setattr(upsample, "STRIP_BYTES", 4 * CLASSES * 61 * 3)
    network, image = Blur(), noise(45, 61)
    total = torch.zeros(CLASSES, 45, 61, dtype=torch.float64)
    for scale in MULTI.scales:
        scaled = resize_image(image, (round(45 * scale), round(61 * scale)))
        for mirrored in (False, True):
            seen = np.ascontiguousarray(scaled[:, ::-1] if mirrored else scaled)
            batch = PLAIN.normalize(torch.from_numpy(seen).permute(2, 0, 1)[None])
            logits = F.interpolate(network(batch).double(), (45, 61), mode="bilinear")[0]
            total += (logits.flip(2) if mirrored else logits).softmax(dim=0)
    top = total.topk(2, dim=0).values
    clear = (top[0] - top[1] > 1e-5).numpy()
    assert clear.mean() > 0.99
    found = segment(network, image, PLAIN, MULTI)
    assert np.array_equal(found[clear], total.argmax(0).numpy()[clear])


class Largest(TorchDispatchMode):
    """Watches the elements of the largest float tensor that any operator makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for part in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(part, Tensor) and part.is_floating_point():
                self.elements = max(self.elements, part.numel())
        return found


@pytest.mark.parametrize(
    ("protocol", "size"),
    [
        (Protocol(), (300, 220)),
        (Protocol("multi_scale", scales=(0.5, 1.0)), None),
        (Protocol("multi_scale", scales=(0.5, 1.0)), (300, 220)),
    ],
)
def test_logits_beyond_the_limit_never_exist_at_full_size(monkeypatch, protocol, size):
    classes, height, width = 40, 240, 180
    strip = 8 * classes * width
    monkeypatch.setattr(upsample, "STRIP_BYTES", 4 * strip)
    monkeypatch.setattr(protocols, "LARGEST_LOGITS", 4 * classes * height * width - 1)
    with Largest() as watched:
        segment(Coarse(classes), noise(height, width), PLAIN, protocol, size)
    assert watched.elements <= 3 * strip < classes * height * width / 9


def test_sliding_windows_need_no_more_for_a_higher_image():
    protocol, needed = Protocol("sliding", window=32, stride=20), []
    for height in (96, 384):
        with Largest() as watched:
            segment(Coarse(40), noise(height, 48), PLAIN, protocol)
        needed.append(watched.elements)
    assert needed[0] == needed[1]
