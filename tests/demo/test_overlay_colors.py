"""The colours of the pages' overlays: bright, and different for everybody."""

import re
from itertools import combinations

import cv2
import numpy as np
import pytest

from binseg.export.page import WEB

# of linear RGB, at full severity: Machado, Oliveira and Fernandes 2009, doi 10.1109/TVCG.2009.113
VISIONS = {
    "trichromat": np.eye(3),
    "protanope": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranope": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


def as_seen(vision: np.ndarray) -> np.ndarray:
    """CIE Lab of the colours, (12, 3)."""
    listed = re.search(r"COLORS = \[(.*?)\]\.flat", (WEB / "view.js").read_text(), re.DOTALL)
    assert listed is not None
    found = re.findall(r'"([0-9a-f]{6})"', listed[1])
    assert len(found) == 12  # CamVid has 11 classes
    coded = np.array([list(bytes.fromhex(each)) for each in found]) / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ vision.T, 0, 1)
    coded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(coded[None].astype(np.float32), cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize("vision", VISIONS)
def test_no_two_are_alike(vision):
    lab = as_seen(VISIONS[vision])
    nearest = min(np.linalg.norm(a - b) for a, b in combinations(lab, 2))
    assert nearest > 25  # 2.3 is a just noticeable difference


def test_they_stay_bright_on_photographs():
    lightness, *ab = as_seen(VISIONS["trichromat"]).T
    assert lightness.min() > 35
    assert np.hypot(*ab).min() > 50  # of grey 0
