"""What of a network is 1 bit and what is not: parameters, bytes, operations, time."""

from binseg.summarize.layers import Layer, Summary, summary
from binseg.summarize.operations import Operation
from binseg.summarize.sizes import Size, measure_size
from binseg.summarize.timing import OperatorTime, time_operators

__all__ = [
    "Layer",
    "Operation",
    "OperatorTime",
    "Size",
    "Summary",
    "measure_size",
    "summary",
    "time_operators",
]
