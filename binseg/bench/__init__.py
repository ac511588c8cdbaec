"""Speed, size and memory of the 1-bit engine beside what else the machine can do: see `run`."""
