"""The 1-bit engine's operators: `ops` (what to call), `reference` (slow, exact), kernels.

Knows nothing of networks. Nothing is compiled before an operator first runs.
"""
