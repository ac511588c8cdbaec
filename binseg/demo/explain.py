"""How the network at hand is binary: its own figures and weights, with the idea in plain words."""

from dataclasses import dataclass

import numpy as np

from binseg.demo.models import ModelList
from binseg.demo.signs import first_signs, signs_html
from binseg.summarize import Layer, Summary, summary
from binseg.summarize.tables import count

COLUMNS = (
    "layer",
    "kind",
    "bits",
    "1-bit weights",
    "other numbers",
    "bytes, packed",
    "1-bit products",
    "other products",
)

_SIZE = (480, 640)


@dataclass(frozen=True)
class Explanation:
    """What the page shows of how a model is binary.

    Attributes:
        text: Markdown.
        rows: texts in the order of `COLUMNS`, a row for each layer; the last one has the sums.
        signs: HTML of what its first 1-bit layer makes of an image; empty where no layer has 1-bit
            weights.
    """

    text: str
    rows: list[list[str]]
    signs: str


def explain(models: ModelList, key: str, image: np.ndarray) -> Explanation:
    """Explain a model of the list with an image, uint8 (H, W, 3).

    Raises:
        BinsegError: there is no such model, its file is damaged, or the image is too small for it.
    """
    loaded = models.load(key)
    size = loaded.preprocessing.target_size(*_SIZE)
    found = summary(loaded.model, size)
    text = _text(key, found, models.bytes(key), models.get(key).architecture)
    rows = [_row(layer) for layer in (*found.layers, found.total)]
    packed = models.packed(key)
    signs = None if packed is None else first_signs(packed, image)
    return Explanation(text, rows, "" if signs is None else signs_html(signs))


def _row(layer: Layer) -> list[str]:
    return [
        layer.name,
        layer.kind,
        ", ".join(map(str, layer.parameters)),
        count(layer.binary_parameters),
        count(layer.real_parameters),
        count(layer.packed_bytes),
        count(layer.binary_macs),
        count(layer.real_macs),
    ]


def _text(key: str, found: Summary, file_bytes: int, architecture: dict[str, object]) -> str:
    total = found.total
    if not total.binary_parameters:
        return f"**{key}** is a full-precision network: none of its weights is 1 bit."
    height, width = found.size
    share = {name: f"{100 * (1 - real):.1f} %" for name, real in found.real_share.items()}
    parts = [
        f"**{key}** has {count(total.binary_parameters)} weights of **one bit** each, "
        f"{share['parameters']} of all its numbers, in a file of {file_bytes / 1e6:.2f} MB. For an "
        f"image of {width} x {height} pixels it adds up {count(total.binary_macs)} products of "
        f"±1 with ±1, {share['macs']} of all its products.",
        "**Sign.** Before each 1-bit convolution a map keeps of every number only whether it is "
        "below 0 (−1) or not (+1). The weights were real numbers while the network learned; of "
        "them, too, only the signs are left.",
        "**XNOR and popcount.** The product of two signs is +1 where they are equal, so that a "
        "processor multiplies 32 or more at once: one XNOR of two words. The population count says "
        "how many of n products are +1, and 2 · count − n is their sum. What follows the sum in "
        "each channel (scale, BatchNorm) is worked out beforehand as a few constants; where signs "
        "follow at once, as one comparison.",
        *_family(architecture),
        "**What is not 1 bit.** The first layer, which sees the image, the head, which names the "
        "classes, and the shortcuts that carry real numbers past the 1-bit layers keep more bits: "
        "they are a small part of the network, and most of its accuracy hangs on them. The table "
        "has every layer.",
    ]
    return "\n\n".join(parts)


def _family(architecture: dict[str, object]) -> list[str]:
    """Paragraphs about what is particular to the network's family."""
    if not str(architecture.get("name", "")).startswith("groupnet"):
        return []
    bases = architecture.get("bases") or "several"
    own = "This network does with one of them. " if bases == 1 else ""
    many = "several" if bases == 1 else str(bases)
    parts = [
        f"**Group-Net.** One 1-bit block is coarse. Group-Net puts {many} of them side by side, "
        "the *bases*, and adds their results, each with a factor it has learned: a sum of binary "
        f"blocks stands for one real block. {own}Gates let each base of the next block see its own "
        "predecessor and that sum, in shares that are learned, too."
    ]
    if architecture.get("atrous") == "bpac":
        parts.append(
            "**BPAC** (binary parallel atrous convolution). In the stages that no longer shrink "
            "the map the bases look at it through kernels of different *dilation*: one at its "
            "close neighbours, another farther away. Segmentation needs a wide view, and here it "
            "costs nothing: the number of products stays the same."
        )
    return parts
