"""A backbone as an encoder of segmentation-models-pytorch (smp).

Importing this module imports smp, which takes seconds.
"""

from collections.abc import Mapping
from typing import Any, cast

from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.nn.backbones import create_backbone
from binseg.nn.backbones.open_stem import OpenStem
from binseg.nn.smp_grids import on_smp_grids


class BinsegEncoder(nn.Module, EncoderMixin):
    """A backbone, and the map before its stem's pooling, as smp's decoders want them.

    Args:
        backbone: name of a dense backbone.
        options: of that backbone.
        depth: how many maps below the image itself are given, 1 to 5.
        output_stride: input pixels to one pixel of the last map, 8, 16 or 32.

    Shapes:
        x: float32 (N, 3, H, W), normalised; H and W are multiples of the output stride.
        returns depth + 1 maps: x, the stem's before its pooling (stride 2), and those of the
            stages, at strides 4, 8, 16, 32, none coarser than the output stride.

    Raises:
        BinsegError: an unknown backbone or option (with the nearest one), or a value out of range.
    """

    _is_torch_scriptable = False

    def __init__(
        self,
        *,
        backbone: str,
        options: Mapping[str, Any] | None = None,
        depth: int = 5,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if not 1 <= depth <= 5:
            raise BinsegError(f"an encoder has a depth of 1 to 5, not {depth}")
        self.backbone = create_backbone(backbone, output_stride=output_stride, **(options or {}))
        self.backbone.stem = OpenStem(cast(nn.Sequential, self.backbone.stem))
        self._depth = depth
        self._in_channels = 3
        self._output_stride = output_stride
        self._out_channels = [3, self.backbone.stem.fine_channels, *self.backbone.channels]

    def forward(self, x: Tensor) -> list[Tensor]:
        stem = cast(OpenStem, self.backbone.stem)
        fine = stem.before_pool(x)
        maps = self.backbone(stem.after_pool(fine))
        grids = on_smp_grids(maps, self.backbone.strides, cast(int, self.output_stride))
        return [x, fine, *grids][: self._depth + 1]

    def set_in_channels(self, in_channels: int, pretrained: bool = True) -> None:
        """Refuse all but images of three channels.

        Raises:
            BinsegError: another number.
        """
        if in_channels != 3:
            raise BinsegError(f"binseg's encoders take images of 3 channels, not {in_channels}")

    def make_dilated(self, output_stride: int) -> None:
        """Nothing to do: the backbone was built with its output stride."""
