"""Networks of segmentation-models-pytorch over our backbones: what is binary in bits, decoder and
segmentation head as they were trained."""

from copy import deepcopy
from typing import Any, cast

from torch import Tensor, nn

from binseg.nn.backbones.open_stem import OpenStem
from binseg.nn.segmenter import SmpSegmenter
from binseg.nn.smp_grids import on_smp_grids, padded
from binseg.packed.folding import Folding
from binseg.packed.stems import PackedStem


class PackedEncoder(nn.Module):
    """A packed backbone that gives the map before its stem's pooling, too.

    Args:
        network: the trained network; on the meta device only sizes are taken.
        body: its backbone, packed, which gives the maps of all stages.
        folding: see `Folding`.
    """

    def __init__(self, network: SmpSegmenter, body: nn.Module, folding: Folding) -> None:
        super().__init__()
        encoder, backbone = cast(Any, network.network.encoder), cast(Any, network.own_backbone)
        self.strides = list(backbone.strides)
        self.output_stride = encoder.output_stride
        self.features = len(encoder.out_channels)
        self.body = body
        self.body.stem = PackedOpenStem(backbone.stem, folding)

    def forward(self, x: Tensor) -> list[Tensor]:
        """A picture (N, 3, H, W) to the maps (N, C, h, w) of the trained encoder."""
        x = padded(x)
        stem = cast(PackedOpenStem, self.body.stem)
        fine = stem.before_pool(x)
        maps = [each.permute(0, 3, 1, 2) for each in self.body(stem.after_pool(fine))]
        grids = on_smp_grids(maps, self.strides, self.output_stride)
        return [x, fine, *grids][: self.features]


class PackedOpenStem(nn.Module):
    """`OpenStem`, packed; like it, it lets pass what the body calls it with.

    Args:
        stem: the trained layers; on the meta device only sizes are taken.
        folding: see `Folding`.
    """

    def __init__(self, stem: OpenStem, folding: Folding) -> None:
        super().__init__()
        self.fine = PackedStem(nn.Sequential(*stem.fine_layers), folding)
        self.coarse = PackedStem(nn.Sequential(*stem.coarse_layers), folding)

    def before_pool(self, x: Tensor) -> Tensor:
        """A picture (N, 3, H, W) to float32 (N, C, ⌈H / 2⌉, ⌈W / 2⌉)."""
        y = x.permute(0, 2, 3, 1)
        for step in self.fine.steps:
            y = step(y)
        return y.float().permute(0, 3, 1, 2)

    def after_pool(self, fine: Tensor) -> tuple[Tensor, Tensor]:
        """That map to the stem's real map and its signs, see `PackedStem`."""
        found: tuple[Tensor, Tensor] = self.coarse(fine)
        return found

    def forward(self, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return given


class KeptDecoder(nn.Module):
    """Decoder and segmentation head of a trained network, in float32 and no longer trainable.

    Args:
        network: the trained network; on the meta device only sizes are taken.
    """

    def __init__(self, network: SmpSegmenter) -> None:
        super().__init__()
        trained = cast(Any, network.network)
        self.decoder, self.segmentation_head = (
            _kept(part) for part in (trained.decoder, trained.segmentation_head)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """The encoder's maps to scores (N, H, W, classes) of the padded picture."""
        scores: Tensor = self.segmentation_head(self.decoder(features))
        return scores.permute(0, 2, 3, 1)


def _kept(part: nn.Module) -> nn.Module:
    copy = deepcopy(part).requires_grad_(False)
    on_meta = any(parameter.is_meta for parameter in copy.parameters())
    return copy if on_meta else copy.cpu().float()
