"""The card of a model file."""

from binseg.model_card import model_card
from binseg.model_file import read_header
from binseg.shipped import shipped_models


def test_what_validation_images_are_is_said_beside_the_figures_on_them():
    header = read_header(shipped_models()["camvid-small"].path)
    said = "validation images are one clip of a sequence"
    header["training"] = {"data": "camvid", "val_miou": 0.5}
    assert said in model_card(header, 1000, "me/streets")
    header["training"] = {"data": "camvid"}
    assert said not in model_card(header, 1000, "me/streets")
    header["training"] = {"data": "voc", "val_miou": 0.5}
    assert said not in model_card(header, 1000, "me/streets")
