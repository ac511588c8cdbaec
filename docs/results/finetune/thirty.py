"""Writes 30 images of a CamVid sequence to train on, and 45 others of it to score, as a folder.

    python docs/results/finetune/thirty.py data/CamVid runs/thirty

The 101 images of 0006R0, one a second, in stretches of ten: six of each odd stretch are labelled,
the inner nine of each even one are scored, so that no two of them are less than a second apart.
"""

import shutil
import sys
from pathlib import Path

import yaml

from binseg.data.labels import get_label_table

LABELLED, SCORED = (0, 2, 4, 5, 7, 9), range(11, 20)


def main(camvid: Path, out: Path) -> None:
    images = sorted((camvid / "train").glob("0006R0*"))
    for split, places in {"train": LABELLED, "val": SCORED}.items():
        for path in (images[20 * pair + place] for pair in range(5) for place in places):
            for source, part in (("train", "images"), ("trainannot", "masks")):
                (found,) = (camvid / source).glob(f"{path.stem}.*")
                (out / part / split).mkdir(parents=True, exist_ok=True)
                shutil.copy(found, out / part / split / found.name)
    names = get_label_table("camvid").names
    classes = [{"name": name, "id": index} for index, name in enumerate(names)]
    (out / "labels.yaml").write_text(yaml.safe_dump({"classes": classes, "ignore": [11]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
