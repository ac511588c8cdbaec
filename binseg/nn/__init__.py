"""Networks: binarizers, binary layers, backbones, heads, and how they are put together."""

from binseg.nn.activations import BinaryActivation
from binseg.nn.binarize import binarize_weight, sign
from binseg.nn.classifier import Classifier, create_classifier
from binseg.nn.layers import BinaryConv2d, set_binarization
from binseg.nn.segmenter import Segmenter, create_model, list_models

__all__ = [
    "BinaryActivation",
    "BinaryConv2d",
    "Classifier",
    "Segmenter",
    "binarize_weight",
    "create_classifier",
    "create_model",
    "list_models",
    "set_binarization",
    "sign",
]
