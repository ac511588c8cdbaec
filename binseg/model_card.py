"""The card of a model file, made from its header."""

from collections.abc import Mapping
from typing import Any

import yaml

_FIGURES = {
    "val_miou": "mIoU on the validation images",
    "start": "started from",
    "data": "trained on",
    "epochs": "epochs",
    "epoch": "epoch of these weights",
    "steps": "steps",
}

_VALIDATION = {
    "camvid": "CamVid's validation images are one clip of a sequence that 204 of its 367 training "
    "images are from: a figure on them says how well a network knows this street, and less about "
    "another one.\n\n"
}
"""What to know of a data set's validation images, after the figures on them."""


def model_card(header: Mapping[str, Any], size: int, name: str) -> str:
    """Markdown with the front matter that the Hugging Face Hub reads.

    Args:
        header: of the model file.
        size: of the file, in bytes.
        name: what people load: `hf:user/name` or a path.
    """
    labels, training = header["labels"], header.get("training") or {}
    packed = header["kind"] == "packed"
    front = {
        "library_name": "binseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["binseg", "semantic-segmentation", *(["1-bit", "xnor"] if packed else [])],
        "license": "other",
        "license_name": "see-terms",
    }
    side = header["preprocessing"].get("short_side")
    rows = {
        "kind": "1-bit weights and activations, packed"
        if packed
        else "float weights, to train further or to pack",
        "size": f"{size / 1e6:.2f} MB",
        "classes": f"{len(labels['names'])}: {', '.join(labels['names'])}",
        "sees": f"images resized to a short side of {side} pixels"
        if side
        else "images as they are",
        **{title: _figure(training[key]) for key, title in _FIGURES.items() if key in training},
    }
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in rows.items())
    validation = _VALIDATION.get(str(training.get("data")), "") if "val_miou" in training else ""
    terms = training.get("terms") or (
        "The author of these weights has stated no terms; those of the training data apply"
        + (", and those of what it started from." if "start" in training else ".")
    )
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {name.rsplit("/", 1)[-1].split("@")[0]}

A semantic segmentation network made with binseg.

| | |
|---|---|
{table}

{validation}## Use

```sh
pip install binseg
binseg predict {name} image.jpg --out result
```

```python
from binseg import Predictor

class_map = Predictor("{name}")("image.jpg").class_map
```

## Terms

{terms}
"""


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")
