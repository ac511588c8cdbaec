"""Programs: packed networks as lists of operators, see docs/program.md."""
