"""Estimates of what a network will cost before anybody trains it, from measured rates.

`binseg bench --parts operators --out DIR` measures the rates on a machine; `binseg summary NETWORK
--rates DIR/bench.json` estimates each layer with them.
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from binseg.errors import BinsegError
from binseg.summarize.layers import Layer

LANES = {"amx": 64, "avx512": 64, "avx2": 32, "neon": 16, "portable": 1}
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
    def from_bench(cls, path: Path) -> "Rates":
        """Medians over the operators that `binseg bench` measured on one thread.

        1-bit products: of convolutions that end in bits and fill whole tiles. Maps: what those that
        end in reals (which also read a shortcut) take beyond their products.

        Args:
            path: its bench.json.

        Raises:
            BinsegError: no such file, or one without these measurements.
        """
        try:
            networks = json.loads(path.read_text(encoding="utf-8"))["operators"].values()
            backend = next(iter(networks))["instruction_set"]
            operators = [
                each
                for network in networks
                for each in network["operators"]
                if network["threads"] == 1 and each["macs"]
            ]
            bits = statistics.median(
                each["macs"] / each["seconds"]
                for each in operators
                if each["operator"] == "conv_bits" and each["output"][3] % LANES[backend] == 0
            )
            int8 = statistics.median(
                each["macs"] / each["seconds"]
                for each in operators
                if each["operator"].startswith("conv_int8")
            )
            maps = statistics.median(
                8 * math.prod(each["output"]) / beyond
                for each in operators
                if each["operator"] in ("conv_real", "conv_merge")
                and (beyond := each["seconds"] - each["macs"] / bits) > 0
            )
        except (
            *(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError),
            *(StopIteration, ZeroDivisionError),
        ) as error:
            raise BinsegError(
                f"{path}: no rates of operators in it ({error}); make it by `binseg bench --parts "
                "operators --out DIR`"
            ) from error
        return cls(backend, bits, int8, maps)


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
