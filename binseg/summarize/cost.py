"""What a network will cost before anybody trains it: its layers' operations at measured rates.

`binseg bench --parts layers --out DIR` measures the rates on a machine; `binseg summary NETWORK
--rates DIR/bench.json` estimates each layer with them.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binseg.errors import BinsegError
from binseg.summarize.layers import Layer

LANES = {"avx512": 64, "avx2": 32, "neon": 16, "portable": 1}
"""Output channels that a tile of each instruction set computes at once; a layer with fewer leaves
lanes empty."""
_INT8_LANES = 16


@dataclass(frozen=True)
class Rates:
    """How fast one thread is.

    Attributes:
        backend: instruction set of the 1-bit convolutions.
        bits: products of ±1 with ±1 a second that end in bits, where all lanes are full.
        int8: 8-bit products a second.
        map_bytes: bytes a second of a float map that a layer writes or reads beside them.
    """

    backend: str
    bits: float
    int8: float
    map_bytes: float

    @classmethod
    def from_bench(cls, path: Path, backend: str | None = None) -> "Rates":
        """Medians over the 3×3 convolutions that `binseg bench` measured on one thread.

        Args:
            path: its bench.json.
            backend: instruction set; None for the first that was measured.

        Raises:
            BinsegError: no such file, or one without these measurements.
        """
        try:
            layers = json.loads(path.read_text(encoding="utf-8"))["layers"]
            single = [layer for layer in layers if layer["threads"] == 1]
            sides = single[0]["sides"]
            measured = [name for name in LANES if f"{name} bits" in sides]
            chosen = backend or next(name for name in sides_order(sides) if name in measured)
            if chosen not in measured:
                raise BinsegError(f"{path}: measured {', '.join(measured)}, not {chosen}")
            bits, int8, maps = [], [], []
            for layer in single:
                seconds = {name: side["seconds"] for name, side in layer["sides"].items()}
                macs, shape = layer["macs"], layer["shape"]
                bits.append(macs / seconds[f"{chosen} bits"])
                int8.append(macs / min(v for k, v in seconds.items() if k.startswith("int8")))
                # "real" also reads a shortcut and writes the sum, both float32
                moved = 2 * 4 * shape["channels"] * shape["height"] * shape["width"]
                maps.append(moved / (seconds[f"{chosen} real"] - seconds[f"{chosen} bits"]))
        except (OSError, ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
            raise BinsegError(
                f"{path}: no rates of layers in it ({error}); make it by `binseg bench --parts "
                "layers --out DIR`"
            ) from error
        return cls(chosen, *(statistics.median(each) for each in (bits, int8, maps)))


def sides_order(sides: dict[str, Any]) -> list[str]:
    """Instruction sets in the order in which the sides were measured."""
    return list(dict.fromkeys(name.split()[0] for name in sides))


def estimate(layers: Sequence[Layer], rates: Rates) -> list[float]:
    """Seconds of each layer for one image on one thread.

    A 1-bit layer costs its products, as if its channels filled whole tiles, and its float map twice
    (a shortcut is read, the sum is written). Any other layer costs its products at 8 bits and its
    result at one byte a value, written and read. What it leaves out (the image's own way in,
    upsampling to the class map) is the same for all networks of one size.
    """
    return [_seconds(layer, rates) for layer in layers]


def _seconds(layer: Layer, rates: Rates) -> float:
    values = math.prod(layer.output)
    channels = layer.output[1] if len(layer.output) == 4 else 1
    if layer.binary_macs:
        full = _filled(channels, LANES[rates.backend])
        return layer.binary_macs * full / rates.bits + 8 * values / rates.map_bytes
    if layer.real_macs:
        full = _filled(channels, _INT8_LANES)
        return layer.real_macs * full / rates.int8 + 2 * values / rates.map_bytes
    return 0.0  # folded into its neighbours


def _filled(channels: int, lanes: int) -> float:
    """By how much whole tiles exceed the channels."""
    return math.ceil(channels / lanes) * lanes / channels
