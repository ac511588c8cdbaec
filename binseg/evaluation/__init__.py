"""Scores: how they are counted, how images are shown to a network, and reports."""
