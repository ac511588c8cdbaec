"""A backbone's stem in two halves, for decoders that want the map before its pooling."""

from collections import OrderedDict

from torch import Tensor, nn

from binseg.errors import BinsegError


class OpenStem(nn.Sequential):
    """A stem whose halves are run by whoever opened it; called as a whole it lets pass.

    It takes the place of a backbone's own stem, under the same parameter names:

        fine = stem.before_pool(image)
        maps = backbone(stem.after_pool(fine))

    Args:
        stem: convolutions and BatchNorms, a max-pool, and whatever follows it.

    Raises:
        BinsegError: it does not pool.
    """

    def __init__(self, stem: nn.Sequential) -> None:
        if not isinstance(stem, nn.Sequential):
            raise BinsegError(
                f"a {type(stem).__name__} has no map at stride 2 to give; this is no encoder "
                "for smp"
            )
        super().__init__(OrderedDict(stem.named_children()))
        pools = [i for i, layer in enumerate(stem) if isinstance(layer, nn.MaxPool2d)]
        if not pools:
            raise BinsegError("a stem without pooling has no map at stride 2")
        self.pool = pools[0]

    @property
    def fine_channels(self) -> int:
        """Channels of the map before the pooling."""
        convs = [layer for layer in self.fine_layers if isinstance(layer, nn.Conv2d)]
        return convs[-1].out_channels

    @property
    def fine_layers(self) -> list[nn.Module]:
        """Those before the pooling."""
        return list(self)[: self.pool]

    @property
    def coarse_layers(self) -> list[nn.Module]:
        """The pooling and those after it."""
        return list(self)[self.pool :]

    def before_pool(self, x: Tensor) -> Tensor:
        """An image (N, 3, H, W) to (N, fine_channels, ⌈H / 2⌉, ⌈W / 2⌉)."""
        for layer in self.fine_layers:
            x = layer(x)
        return x

    def after_pool(self, fine: Tensor) -> Tensor:
        """That map to the stem's result."""
        for layer in self.coarse_layers:
            fine = layer(fine)
        return fine

    def forward(self, given: Tensor) -> Tensor:
        return given
