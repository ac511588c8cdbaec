"""Signs of a real map whose threshold is not 0, where no convolution makes them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from binseg.kernels import ops
from binseg.nn.activations import AdaptiveSign, BinaryActivation, LearntSign
from binseg.packed.stored import Stored
from binseg.packed.thresholds import norm_affine


class LearntSigns(Stored):
    """`LearntSign`, packed.

    Args:
        activation: the trained one; on the meta device only its size is taken.

    Attributes:
        shift: float32 (C,).
    """

    shift: Tensor

    def __init__(self, activation: LearntSign) -> None:
        super().__init__()
        self.declare("shift", tuple(activation.shift.shape), torch.float32)
        if not activation.shift.is_meta:
            self.fill("shift", activation.shift.cpu())

    def forward(self, real: Tensor) -> Tensor:
        """float32 (N, H, W, 1, C) to int32 (N, H, W, 1, ⌈C / 32⌉)."""
        return ops.pack_sign(real, torch.stack([torch.ones_like(self.shift), self.shift]))


class AdaptiveSigns(Stored):
    """`AdaptiveSign`, packed.

    Args:
        activation: the trained one; on the meta device only its sizes are taken.

    Attributes:
        squeeze, excite: float32 (hidden units, C) and (C, hidden units).
    """

    squeeze: Tensor
    excite: Tensor

    def __init__(self, activation: AdaptiveSign) -> None:
        super().__init__()
        for name, layer in (("squeeze", activation.squeeze), ("excite", activation.excite)):
            self.declare(name, tuple(layer.weight.shape), torch.float32)
            if not layer.weight.is_meta:
                self.fill(name, layer.weight.cpu())

    def forward(self, real: Tensor) -> Tensor:
        """float32 (N, H, W, 1, C) to int32 (N, H, W, 1, ⌈C / 32⌉)."""
        mean = real.mean(dim=(1, 2)).squeeze(1)
        shift = F.linear(F.relu(F.linear(mean, self.squeeze)), self.excite).float().sigmoid()
        return ops.pack_sign(real, torch.stack([torch.ones_like(shift), shift], dim=1))


class NormSigns(Stored):
    """BatchNorm → sign of a real map, or of one whose pixels lie side by side in the channels.

    Args:
        norm: the trained one; on the meta device only its size is taken.

    Attributes:
        affine: float32 (2, C), gain and shift.
    """

    affine: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.declare("affine", (2, norm.num_features), torch.float32)
        if not norm.weight.is_meta:
            self.fill("affine", torch.stack(norm_affine(norm)))

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, H, W, n·C) to int32 (N, H, W, 1, ⌈n·C / 32⌉)."""
        pixels = x.shape[3] // self.affine.shape[1]
        affine = self.affine if pixels == 1 else self.affine.repeat(1, pixels)
        return ops.pack_sign(x.unsqueeze(3), affine)


def packed_signs(activation: nn.Module) -> LearntSigns | AdaptiveSigns | None:
    """The signs of a real map as `activation` takes them; None where the threshold is 0."""
    assert isinstance(activation, BinaryActivation)
    if isinstance(activation, AdaptiveSign):
        return AdaptiveSigns(activation)
    return LearntSigns(activation) if isinstance(activation, LearntSign) else None
