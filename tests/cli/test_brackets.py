"""Names with what rich reads as markup are shown as they are written."""

import numpy as np
import pytest

from binseg.cli import main
from binseg.data.imageio import write_image, write_mask
from binseg.data.labels import LabelTable
from binseg.data.preprocess import Preprocessing
from binseg.loaded import save
from binseg.nn.segmenter import create_model

NAMES = ("[bold]tree[/bold]", "[/red]", "a[0]")


@pytest.fixture
def root(tmp_path):
    """A folder of images whose name and classes are full of brackets."""
    root = tmp_path / "[italic]my[/x] data"
    for split in ("train", "val"):
        for number in range(3):
            image = np.full((8, 9, 3), 80 * number, np.uint8)
            mask = np.arange(72, dtype=np.uint8).reshape(8, 9) % 3
            write_image(root / f"images/{split}/{split}{number}.png", image)
            write_mask(root / f"masks/{split}/{split}{number}.png", mask)
    classes = "".join(f'  - "{name}"\n' for name in NAMES)
    (root / "labels.yaml").write_text(f"classes:\n{classes}")
    return root


def test_data_check(root, capsys):
    main(["data", "check", "--data.name", "folder", "--data.root", str(root)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert all(name in printed.out for name in (*NAMES, root.name))


def test_evaluate_and_summary(root, capsys):
    names = LabelTable("t", NAMES, ((0, 0, 0), (1, 1, 1), (2, 2, 2)), {0: 0, 1: 1, 2: 2})
    model = root / "[/m].safetensors"
    network = create_model("groupnet18", num_classes=3, bases=1, width=8)
    save(model, network, names, Preprocessing(short_side=32))
    data = ["--data.name", "folder", "--data.root", str(root)]
    assert main(["evaluate", str(model), *data]) == 0
    printed = capsys.readouterr().out.replace("\n", "")  # a long path is broken into lines
    assert all(name in printed for name in (*NAMES, "m].safetensors"))
    assert main(["summary", str(model), "--size", "[32,32]"]) == 0
    assert "m].safetensors" in capsys.readouterr().out.replace("\n", "")
