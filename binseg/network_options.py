"""The choices that a network's options have; here, so that configurations load without torch."""

from typing import Literal

ActivationGradient = Literal["ste", "approx", "ede"]
Threshold = Literal["zero", "learnt", "adaptive"]
WeightScale = Literal["none", "layer", "filter"]
WeightGradient = Literal["identity", "clip", "ede", "xnor"]

Stem = Literal["conv7", "conv7_bn", "conv7_relu", "grouped3", "conv3"]
Decomposition = Literal["group", "layer"]
Gates = Literal["shared", "per_branch", "none"]
Merge = Literal["learnt", "mean"]
Shortcut = Literal["block", "conv"]
Downsample = Literal["binary", "real"]
Atrous = Literal["bpac", "one_rate", "off"]
