"""`PackedConv`: a binary convolution with its bits and what follows it."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from binseg.errors import BinsegError
from binseg.kernels import ops
from binseg.kernels.checks import weight_size
from binseg.kernels.layout import pack_weight, unpack_weight
from binseg.kernels.shape import ConvShape
from binseg.nn.layers import BinaryConv2d
from binseg.packed.folding import Folding
from binseg.packed.stored import Expected, Stored
from binseg.packed.thresholds import unit_curve, unit_thresholds

_INTEGERS = (torch.int16, torch.int32)

POST = {"before": 0.0, "slope": 1.0, "after": 0.0, "threshold": 0.0}
"""The rows of `post` in `ops.conv_real`, and what changes nothing in each."""


class PackedConv(Stored):
    """Binary convolution with thresholds (bits out) or with a curve (real numbers out).

    Args:
        shape: of the convolution as it is run.
        threshold: whether integers stand for what follows, or a curve.
        tanh: which curve, see `ops.conv_real`.
        shared: whether one base's weights serve all bases of the map.
        post: the rows of `POST` that follow the shortcut's sum.

    Attributes:
        weight: int32 in the kernels' order, see `layout.pack_weight`.
        low, span: int32 (K·C_out,), with `threshold`.
        curve: float32 (3, K·C_out), without.
        post: float32 (4, K·C_out), or None; in a file only the rows that there are.

    In a file the weights are bits in the order (K·C_out, kh, kw, C_in), the first in the lowest bit
    of a byte, and thresholds take 16 bits where they fit.
    """

    weight: Tensor
    low: Tensor
    span: Tensor
    curve: Tensor
    post: Tensor | None

    def __init__(
        self,
        shape: ConvShape,
        *,
        threshold: bool,
        tanh: bool = False,
        shared: bool = False,
        post: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.shape = shape
        self.tanh = tanh
        self.copies = shape.bases if shared else 1
        self.bases = shape.bases // self.copies  # with weights of their own
        channels = self.bases * shape.out_channels
        self.declare("weight", (self.bases, *weight_size(shape)[1:]), torch.int32)
        self.threshold = threshold
        if threshold:
            self.declare("low", (channels,), torch.int32)
            self.declare("span", (channels,), torch.int32)
        else:
            self.declare("curve", (3, channels), torch.float32)
        self.rows = [row for row, name in enumerate(POST) if name in post]
        if post:
            self.declare("post", (len(POST), channels), torch.float32)
        else:
            self.post = None

    @classmethod
    def of(
        cls,
        unit: nn.Sequential,
        folding: Folding,
        *,
        threshold: bool = False,
        branches: int = 1,
        post: Mapping[str, Tensor] | None = None,
    ) -> "PackedConv":
        """A trained unit folded: binary convolution (→ nonlinearity) (→ BatchNorm).

        Args:
            unit: the layers; on the meta device only sizes are taken.
            folding: see `Folding`.
            threshold: bits out.
            branches: bases of the map that a unit of one base serves.
            post: what follows the shortcut's sum: rows of `POST`, (K·C_out,) each.
        """
        conv = unit[0]
        assert isinstance(conv, BinaryConv2d)
        shape = ConvShape(
            conv.in_channels,
            conv.out_channels,
            (conv.kernel_size, conv.kernel_size),
            conv.stride,
            conv.dilations * branches,
            int(conv.padding_value),
        )
        tanh = not threshold and any(isinstance(layer, nn.Tanh) for layer in unit)
        post = post or {}
        packed = cls(shape, threshold=threshold, tanh=tanh, shared=branches > 1, post=post)
        if conv.weight.is_meta:
            return packed
        name = folding.name(unit)
        packed.fill("weight", pack_weight(conv.latent_weight.detach().cpu(), conv.bases))
        if threshold:
            low, span = unit_thresholds(unit, name)
            packed.fill("low", low)
            packed.fill("span", span)
        else:
            packed.fill("curve", unit_curve(unit, name)[0])
        if post:
            rows = torch.stack([post[name].detach().cpu() for name in POST if name in post])
            packed.fill("post", packed._whole(rows))
        return packed

    def bits(self, x: Tensor) -> Tensor:
        """`ops.conv_bits` of the packed map `x`."""
        return ops.conv_bits(x, self.weight, self.shape, self.low, self.span)

    def real(
        self, x: Tensor, residual: Tensor | None = None, *, pack: bool = True
    ) -> tuple[Tensor, Tensor]:
        """`ops.conv_real` of the packed map `x`."""
        weight, curve = self._spread()
        return ops.conv_real(
            x,
            weight,
            self.shape,
            curve,
            tanh=self.tanh,
            residual=residual,
            pack=pack,
            post=self.post,
        )

    def merge(
        self,
        x: Tensor,
        residual: Tensor,
        lambdas: Tensor,
        *,
        gates: Tensor | None,
        keep_merged: bool,
        pack: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`ops.conv_merge` of the packed map `x`."""
        return ops.conv_merge(
            x,
            self.weight,
            self.shape,
            self.curve,
            residual,
            lambdas,
            gates=gates,
            tanh=self.tanh,
            keep_merged=keep_merged,
            pack=pack,
        )

    def _whole(self, rows: Tensor) -> Tensor:
        """All of `post` from the rows that there are."""
        whole = rows.new_tensor(list(POST.values())).unsqueeze(1).repeat(1, rows.shape[1])
        whole[self.rows] = rows
        return whole

    def _spread(self) -> tuple[Tensor, Tensor]:
        if self.copies == 1:
            return self.weight, self.curve
        return self.weight.expand(self.copies, -1, -1, -1, -1), self.curve.repeat(1, self.copies)

    # --- files ---

    def expected(self) -> dict[str, Expected]:
        found = super().expected()
        del found["weight"]
        if self.threshold:
            for name in ("low", "span"):
                found[name] = found[name]._replace(dtypes=_INTEGERS)
        if self.rows:
            found["post"] = Expected((len(self.rows), *found["post"].shape[1:]), (torch.float32,))
        return {"bits": Expected((-(-self.binary_weights // 8),), (torch.uint8,)), **found}

    def give(self) -> dict[str, Tensor]:
        found = super().give()
        shape = self.shape
        bits = unpack_weight(found.pop("weight"), shape.in_channels, shape.out_channels)
        found["bits"] = bits_to_bytes(bits.flatten(2).transpose(1, 2))
        if self.threshold:
            for name in ("low", "span"):
                short = found[name].short()
                if torch.equal(short.int(), found[name]):
                    found[name] = short
        if self.rows:
            found["post"] = found["post"][self.rows]
        return found

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        rest = dict(tensors)
        shape = self.shape
        bits = bytes_to_bits(rest.pop("bits"), self.binary_weights)
        bits = bits.view(-1, shape.taps, shape.in_channels).transpose(1, 2).unsqueeze(3)
        self.fill("weight", pack_weight(bits, self.bases))
        if self.threshold:
            terms = shape.terms
            low, span = rest["low"].long(), rest["span"].long()
            if low.min() < -terms or low.max() > terms + 1 or span.abs().max() > 2 * terms + 1:
                raise BinsegError("thresholds are out of range")
        if self.rows:
            rest["post"] = self._whole(rest["post"])
        super().take(rest)

    @property
    def binary_weights(self) -> int:
        """How many weights of 1 bit there are."""
        return self.bases * self.shape.out_channels * self.shape.terms


def bits_to_bytes(bits: Tensor) -> Tensor:
    """n bools of any shape as a file holds them: uint8 (⌈n / 8⌉,), the first in the lowest bit."""
    return torch.from_numpy(np.packbits(bits.contiguous().numpy(), axis=None, bitorder="little"))


def bytes_to_bits(stored: Tensor, count: int) -> Tensor:
    """The inverse of `bits_to_bytes`: bool (count,)."""
    plain = np.unpackbits(stored.numpy(), count=count, bitorder="little")
    return torch.from_numpy(plain).view(torch.bool)
