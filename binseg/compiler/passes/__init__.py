"""The passes: each rewrites one thing in the graph."""
