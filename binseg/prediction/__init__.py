"""Segmenting many images: what is to do, who does it, and what is left on the disk."""
