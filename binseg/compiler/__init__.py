"""The compiler: a trained network, traced and rewritten into a program (docs/program.md)."""
