"""`binseg quickstart`: everything once, on built-in scenes."""

import time
from pathlib import Path


def quickstart(out: Path = Path("quickstart")) -> int:
    """Train a 1-bit network and its full-precision twin on drawn street scenes and compare them.

    Needs no data and takes a few minutes on two cores.

    Args:
        out: folder for the runs, predictions and results.json; that of an earlier quickstart is
            replaced.
    """
    from rich.console import Console

    from binseg.lock import locked
    from binseg.quickstart import results_table, run_quickstart

    started = time.monotonic()
    with locked(out):
        rows = run_quickstart(out)
    Console().print(results_table(rows))
    print(
        f"{time.monotonic() - started:.0f} s in all; look at {out / 'predictions'} and at the "
        "runs' curves and overlays beside it"
    )
    return 0
