"""Scores: how they are counted, how pictures are shown to a network, and reports."""
