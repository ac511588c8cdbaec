"""Programs on torch devices: operators declared once, kernels for CUDA, numpy on the CPU."""
