"""Writes Cityscapes' val as a folder with CamVid's 11 classes, to score street networks on.

    python docs/results/street/cities.py data/cityscapes256 runs/cities

The images are a copy of 256×256 pixels, stretched to 512×256, the shape of the original.
"""

import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from binseg.data.labels import CLASS_MAPPINGS, IGNORE, get_label_table

SIZE = 512, 256


def main(source: Path, out: Path) -> None:
    ours, theirs = get_label_table("camvid"), get_label_table("cityscapes")
    becomes = CLASS_MAPPINGS["cityscapes", "camvid"]
    ids = np.full(256, IGNORE, np.uint8)
    for raw, train in theirs.raw_to_train.items():
        if train != IGNORE and (name := becomes[theirs.names[train]]) is not None:
            ids[raw] = ours.names.index(name)
    for part in ("images", "masks"):
        (out / part / "val").mkdir(parents=True, exist_ok=True)
    images = sorted((source / "leftImg8bit/val").rglob("*_leftImg8bit.*"))
    for path in images:
        name = path.stem.removesuffix("_leftImg8bit")
        labels = source / "gtFine/val" / path.parent.name / f"{name}_gtFine_labelIds.png"
        mask = Image.fromarray(ids[np.array(Image.open(labels))])
        image = Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
        image.save(out / "images/val" / f"{name}.png")
        mask.resize(SIZE, Image.Resampling.NEAREST).save(out / "masks/val" / f"{name}.png")
    classes = [{"name": name, "id": index} for index, name in enumerate(ours.names)]
    (out / "labels.yaml").write_text(yaml.safe_dump({"classes": classes, "ignore": [IGNORE]}))
    print(f"{len(images)} images")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
