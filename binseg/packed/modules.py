"""`PackedSegmenter`: a packed network with the call of the trained one."""

from typing import Any

import torch
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.kernels import ops
from binseg.nn.backbones import Backbone
from binseg.nn.backbones.alexnet import AlexNet
from binseg.nn.backbones.densenet import DenseNet
from binseg.nn.backbones.groupnet import GroupNet
from binseg.nn.backbones.resnet import ResNet
from binseg.nn.backbones.xnornet import BWN, XnorNet
from binseg.nn.heads import resize_logits
from binseg.nn.heads.deeplabv3 import DeepLabV3Head
from binseg.nn.heads.fcn import FCNHead
from binseg.nn.layers import BinaryConv2d
from binseg.nn.segmenter import BackboneSegmenter, Segmenter, SmpSegmenter
from binseg.packed.alexnet import PackedAlexNet
from binseg.packed.densenet import PackedDenseNet
from binseg.packed.folding import Folding
from binseg.packed.groupnet import PackedGroupNet
from binseg.packed.heads import PackedDeepLabV3Head, PackedFCNHead, stages_read
from binseg.packed.resnet import PackedResNet
from binseg.packed.smp import KeptDecoder, PackedEncoder
from binseg.packed.xnornet import PackedBWN, PackedXnorNet

# A family is one more file with a body that takes (backbone, stages read, folding) and gives the
# maps of those stages, and a line here; a head likewise. A body begins with a call of its `stem`.
_BODIES: dict[type[nn.Module], Any] = {
    AlexNet: PackedAlexNet,
    BWN: PackedBWN,
    DenseNet: PackedDenseNet,
    GroupNet: PackedGroupNet,
    ResNet: PackedResNet,
    XnorNet: PackedXnorNet,
}
_HEADS: dict[type[nn.Module], Any] = {
    DeepLabV3Head: PackedDeepLabV3Head,
    FCNHead: PackedFCNHead,
}


class PackedSegmenter(Segmenter):
    """A segmentation network of bits, thresholds and folded real layers; it cannot be trained.

    Made by `binseg.pack` from a trained network, or by `binseg.load` from a file.

    Args:
        network: the trained network; on the meta device only sizes are taken.
        folding: see `Folding`.

    Shapes:
        x: float32 (N, 3, H, W), normalised.
        returns float32 logits (N, num_classes, H, W).

    Attributes:
        rest: arithmetic of the layers that are not binary: "fp32", "bf16" or "int8".

    Raises:
        BinsegError: nothing in the network is 1 bit; a backbone or a head that cannot be packed; a
            call with something else than float32 pictures of three channels.
    """

    def __init__(self, network: BackboneSegmenter | SmpSegmenter, folding: Folding) -> None:
        super().__init__(dict(network.architecture))
        require_bits(network)
        self.rest = folding.rest
        self.body, self.head = _parts(network, folding)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return resize_logits(self.scores(x), x.shape[-2:])

    def scores(self, x: Tensor) -> Tensor:
        """Logits on the head's own grid, float32 (N, num_classes, h, w), channels last."""
        require_pictures(x)
        found: Tensor = self.head(self.body(x))
        # the decoders of smp see a padded picture; no other grid is larger than the picture
        return found[:, : x.shape[2], : x.shape[3]].permute(0, 3, 1, 2)

    def class_map(self, x: Tensor) -> Tensor:
        """The class of each pixel, uint8 (N, H, W): upsampling and argmax in one."""
        return ops.upsample_argmax(self.scores(x).permute(0, 2, 3, 1), x.shape[2], x.shape[3])

    def extra_repr(self) -> str:
        return f"rest={self.rest}"


def require_bits(network: nn.Module) -> None:
    """Raise BinsegError if no layer of `network` is binary."""
    if not any(isinstance(module, BinaryConv2d) for module in network.modules()):
        raise BinsegError(
            "nothing in this network is 1 bit, so there is nothing to pack; pack one that was "
            'trained with precision "binary"'
        )


def require_pictures(x: Tensor) -> None:
    """Raise BinsegError if `x` is not float32 (N, 3, H, W)."""
    if x.ndim != 4 or x.shape[1] != 3 or x.dtype != torch.float32:
        raise BinsegError(
            f"a packed network takes float32 pictures (N, 3, H, W), not {x.dtype} {tuple(x.shape)}"
        )


def packed_body(backbone: Backbone, read: frozenset[int], folding: Folding) -> nn.Module:
    """A trained backbone, packed: from a picture to the maps of the stages that are read.

    Raises:
        BinsegError: its family cannot be packed.
    """
    if type(backbone) not in _BODIES:
        raise _unknown(backbone)
    body: nn.Module = _BODIES[type(backbone)](backbone, read, folding)
    return body


def _parts(
    network: BackboneSegmenter | SmpSegmenter, folding: Folding
) -> tuple[nn.Module, nn.Module]:
    """What makes maps of a picture, and what makes scores of them."""
    if isinstance(network, SmpSegmenter):
        inner = network.own_backbone
        if inner is None:
            raise _unknown(network)
        body = packed_body(inner, frozenset(range(len(inner.channels))), folding)
        return PackedEncoder(network, body, folding), KeptDecoder(network)
    backbone, head = network.backbone, network.head
    if type(head) not in _HEADS:
        raise _unknown(head)
    read = stages_read(head, len(backbone.channels))
    return packed_body(backbone, read, folding), _HEADS[type(head)](head, folding)


def _unknown(part: nn.Module) -> BinsegError:
    return BinsegError(f"a network with a {type(part).__name__} cannot be packed yet")
