"""Parameters, bytes and operations of every backbone as a classifier, beside published sizes.

    python docs/results/structure.py > docs/results/structure.md

Nothing is trained or timed: the figures follow from the structure. Packed bytes count one bit for a
binary weight and four bytes for every other parameter and for BatchNorm's statistics, in MiB (2²⁰),
as the published figures turn out to do. Classifiers have 1000 classes, those for CIFAR 10.
"""

import torch

from binseg.nn.backbones import list_backbones
from binseg.nn.classifier import Classifier, create_classifier
from binseg.summarize import measure_size, summary

CLASSES = 1000
# Larq Zoo's re-trainings of Bethge et al. 2019, "Back to Simplicity"
PUBLISHED = {
    "resnete18": 4.03,
    "binarydensenet28": 4.12,
    "binarydensenet37": 5.25,
    "binarydensenet37_dilated": 5.25,
    "binarydensenet45": 7.54,
}
COLUMNS = (
    "network", "parameters", "of them 1-bit", "twin's parameters", "fp32 MiB", "packed MiB",
    "published", "1-bit GMAC", "real GMAC", "image",
)  # fmt: skip


def classifier(name: str, **options: object) -> Classifier:
    """On the meta device: sizes only."""
    with torch.device("meta"):
        return create_classifier(name, num_classes=10 if "cifar" in name else CLASSES, **options)


def row(name: str) -> list[str]:
    """The cells of one network."""
    model = classifier(name)
    size = measure_size(model)
    side = 32 if "cifar" in name else 224
    total = summary(model, (side, side)).total
    twin = measure_size(classifier(name, precision="full"))
    return [
        name,
        f"{size.parameters / 1e6:.2f} M",
        f"{size.binary / 1e6:.2f} M",
        f"{twin.parameters / 1e6:.2f} M",
        f"{size.float_bytes / 2**20:.2f}",
        f"{size.packed_bytes / 2**20:.2f}",
        f"{PUBLISHED[name]:.2f}" if name in PUBLISHED else "",
        f"{total.binary_macs / 1e9:.2f}",
        f"{total.real_macs / 1e9:.2f}",
        f"{side} × {side}",
    ]


if __name__ == "__main__":
    print("# Parameters, bytes and operations of every backbone\n")
    print("Written by `docs/results/structure.py`, of classifiers with their linear layer.")
    print("MiB; published: Larq Zoo's re-trainings. GMAC: products added up for one image.\n")
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'---|' * len(COLUMNS)}")
    for each in list_backbones(dense=False):
        print(f"| {' | '.join(row(each))} |")
