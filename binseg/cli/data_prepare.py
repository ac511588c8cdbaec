"""`binseg data prepare`: a data set downloaded, or looked through, until it can be trained on."""

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def data_prepare(
    name: str,
    root: Path = Path("data"),
    download: bool = True,
    sbd: bool = True,
    annotations: Literal["fine", "coarse"] = "fine",
) -> int:
    """Get a data set ready, e.g. `binseg data prepare voc --root data`, and say what is missing.

    voc downloads PASCAL VOC 2012 and SBD through torchvision; run again, it goes on where it was
    interrupted. cityscapes checks the folders that you unpacked: its archives need an account.

    Args:
        name: voc or cityscapes.
        root: voc: the folder for VOCdevkit/ and sbd/; cityscapes: that of leftImg8bit/ and gtFine/.
        download: fetch what is missing (voc).
        sbd: also SBD, for the training split trainaug (voc).
        annotations: labels to look for, fine or coarse (cityscapes).

    Returns:
        Exit status: 0 if everything that training and scoring need is there, else 1.

    Raises:
        BinsegError: a data set that is not prepared, with the layout of its folder.
    """
    from binseg.data.cityscapes_setup import check_cityscapes
    from binseg.data.setup_report import refuse_to_prepare
    from binseg.data.voc_setup import prepare_voc

    console = Console(soft_wrap=True, highlight=False)
    if name == "cityscapes":
        result = check_cityscapes(root, annotations)
    elif name == "voc":
        with _Steps(console) as steps:
            result = prepare_voc(root, download=download, sbd=sbd, on_progress=steps.on_progress)
    else:
        raise refuse_to_prepare(name)
    for line in result.found:
        console.print(line, markup=False)
    for line in result.missing:
        console.print(line, style="red", markup=False)
    if not result.missing:
        console.print(
            f"{name} is ready (binseg data check --data.name {name} --data.root {root} reads every "
            "image)",
            markup=False,
        )
    return 1 if result.missing else 0


class _Steps(Progress):
    """One bar for each step, with bytes, speed and time left where they are known."""

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def on_progress(self, what: str, done: int, total: int | None) -> None:
        current = self.tasks[-1] if self.tasks else None
        if current is not None and current.description != what:
            self.remove_task(current.id)
            current = None
        if current is None:
            # what an earlier call brought is not part of this one's speed
            self.add_task(what, completed=done, total=total)
        else:
            self.update(current.id, completed=done, total=total)
