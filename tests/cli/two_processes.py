"""Two processes with all that torchrun gives them, without the seconds that torchrun takes."""

import multiprocessing
import os
import sys
from pathlib import Path

# what the children need is imported once, by the server that they are forked from
NEEDED = ["torch.distributed", "binseg.cli.main", "binseg.cli.evaluate", "binseg.evaluation.report"]


def two_processes(folder: Path, *arguments: str) -> list[int | None]:
    """Exit codes of `binseg ARGUMENTS` in each; prints go to folder/RANK.out and .err."""
    from torch.distributed import TCPStore

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(NEEDED)
    # the agent's store, to which torchrun's processes connect
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    children = [
        context.Process(target=_child, args=(rank, store.port, folder, arguments))
        for rank in (0, 1)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


def _child(rank: int, port: int, folder: Path, arguments: tuple[str, ...]) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True")
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{rank}.{name}", os.O_WRONLY | os.O_CREAT), number)
    from binseg.cli.main import main

    sys.exit(main(list(arguments)))
