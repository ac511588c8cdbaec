"""Two processes with all that torchrun gives them, without the seconds that torchrun takes.

They may stand for two machines: each can be given arguments of its own, as another disk would.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# what the children need is imported once, by the server that they are forked from
NEEDED = [
    "torch.distributed",
    "binseg.cli.main",
    "binseg.cli.evaluate",
    "binseg.evaluation.report",
    "binseg.training.run",
]

_PATIENCE = 300  # seconds until a test fails because a process hangs


def two_processes(folder: Path, *arguments: str) -> list[int | None]:
    """Exit codes of `binseg ARGUMENTS` in each; prints go to folder/RANK.out and .err."""
    return processes(folder, [arguments, arguments])


def processes(
    folder: Path, arguments: Sequence[Sequence[str]], *, killed: tuple[int, int] | None = None
) -> list[int | None]:
    """Exit codes of `binseg` with each rank's own arguments; None for one that hangs.

    Args:
        folder: prints go to folder/RANK.out and .err.
        arguments: of each rank.
        killed: (rank, step): this process kills itself at this training step.
    """
    from torch.distributed import TCPStore

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(NEEDED)
    # the agent's store, to which torchrun's processes connect
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    children = [
        context.Process(
            target=_child, args=(rank, len(arguments), store.port, folder, tuple(own), killed)
        )
        for rank, own in enumerate(arguments)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(_PATIENCE)
        if child.is_alive():
            child.kill()
    return [child.exitcode for child in children]


def _child(
    rank: int,
    size: int,
    port: int,
    folder: Path,
    arguments: tuple[str, ...],
    killed: tuple[int, int] | None,
) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port), LOCAL_WORLD_SIZE=str(size))
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RUN_ID="none")
    os.environ.update(GROUP_RANK="0")
    for number, name in ((1, "out"), (2, "err")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(folder / f"{rank}.{name}", flags), number)
    if killed is not None and killed[0] == rank:
        _kill_at(killed[1])
    from binseg.cli.main import main

    sys.exit(main(list(arguments)))


def _kill_at(step: int) -> None:
    from binseg.training.module import SegmentationModule

    usual = SegmentationModule.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(self, batch, batch_idx)

    SegmentationModule.training_step = training_step
