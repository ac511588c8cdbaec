"""The Python of docs/how-to/track-experiments.md runs as it stands, but for sizes."""

import re
from pathlib import Path

import numpy as np
import pytest

from binseg.data.imageio import write_image, write_mask

PAGE = Path(__file__).parents[2] / "docs/how-to/track-experiments.md"

SMALLER = {
    "crop=(352, 352)": "crop=(32, 32)",
    "width=32": "width=8",
    "epochs=60": "epochs=1",
    "epochs=30": "epochs=1",
    "n_trials=20": "n_trials=2",
}


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna", reason="a part of binseg[dev]")
    pytest.importorskip("tensorboard", reason="a part of binseg[dev]")
    rng = np.random.default_rng(0)
    for number in range(10):
        name = f"{'val' if number < 2 else 'train'}/{number}.png"
        image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        write_image(tmp_path / "my_data/images" / name, image)
        write_mask(tmp_path / "my_data/masks" / name, image[..., 0] // 128)
    (tmp_path / "my_data/labels.yaml").write_text("classes: [dark, bright]\n")
    monkeypatch.chdir(tmp_path)
    first, search = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(first.split("\n\n", 1)[1].splitlines()) < 10
    assert sum(map(bool, search.splitlines())) <= 30
    for text, small in SMALLER.items():
        assert text in first + search
        first, search = first.replace(text, small), search.replace(text, small)
    exec(first, scope := {"__name__": "example"})
    assert scope["scores"].mean_iou == pytest.approx(scope["result"].best_miou, abs=1e-6)
    exec(search, scope := {"__name__": "example"})
    assert set(scope["study"].best_params) == {"lr", "bases"}
    for trial in scope["study"].trials:
        assert trial.value == pytest.approx(trial.intermediate_values[0], abs=1e-6)
    assert list((tmp_path / "runs/1/logs").glob("events*"))
    assert f"{scope['study'].best_params}" in capsys.readouterr().out
