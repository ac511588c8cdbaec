"""Networks: binarizers, binary layers, backbones, heads, and how they are put together."""

from binseg.nn.binarize import BinaryActivation, binarize_weight, sign
from binseg.nn.layers import BinaryConv2d, set_binarization
from binseg.nn.segmenter import Segmenter, create_model, list_models

__all__ = [
    "BinaryActivation",
    "BinaryConv2d",
    "Segmenter",
    "binarize_weight",
    "create_model",
    "list_models",
    "set_binarization",
    "sign",
]
