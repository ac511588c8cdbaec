"""`PackedClassifier`: a packed classification network with the call of the trained one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.nn.classifier import Classifier
from binseg.packed.folding import Folding
from binseg.packed.modules import packed_body, require_bits, require_pictures
from binseg.packed.rest import RealConv


class PackedClassifier(nn.Module):
    """A backbone of bits, thresholds and folded real layers, and a real linear layer.

    Made by `binseg.pack` from a trained network; there is no file of it.

    Args:
        network: the trained network; on the meta device only sizes are taken.
        folding: see `Folding`.

    Shapes:
        x: float32 (N, 3, H, W), normalised.
        returns float32 logits (N, num_classes).

    Attributes:
        architecture: the arguments of `create_classifier` that made the trained network.
        rest: arithmetic of the layers that are not binary: "fp32", "bf16" or "int8"; the linear
            layer stays float32.

    Raises:
        BinsegError: nothing in the network is 1 bit; a backbone that cannot be packed; a call with
            something else than float32 pictures of three channels.
    """

    def __init__(self, network: Classifier, folding: Folding) -> None:
        super().__init__()
        require_bits(network)
        self.architecture = dict(network.architecture)
        self.rest = folding.rest
        backbone = network.backbone
        self.final_relu = backbone.final_relu
        last = len(backbone.channels) - 1
        self.body = packed_body(backbone, frozenset({last}), folding)
        self.fc = _packed_linear(network.fc)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        require_pictures(x)
        last: Tensor = self.body(x)[-1].float()
        if self.final_relu:
            last = F.relu(last)
        return self.fc(last.mean(dim=(1, 2)))

    def extra_repr(self) -> str:
        return f"rest={self.rest}"


def _packed_linear(fc: nn.Linear) -> RealConv:
    """A linear layer in float32, which is a 1×1 convolution."""
    sizes = nn.Conv2d(fc.in_features, fc.out_features, 1, device="meta")
    packed = RealConv(sizes, torch.float32)
    if not fc.weight.is_meta:
        packed.fill("weight", fc.weight[:, :, None, None].cpu())
        packed.fill("bias", fc.bias.cpu())
    return packed
