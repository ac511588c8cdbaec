"""Trained networks as files of other tools."""
