"""Images to try the demo with: built-in street scenes, drawn when the page is built."""

from pathlib import Path

from binseg.data.imageio import write_image
from binseg.data.scenes import draw_scene

_SIZE = (480, 640)
_SCENES = ((7, 8), (6, 23), (7, 22), (6, 21))
"""(seed, index) of scenes that no network was trained on, and that `scenes` sees well."""


def write_examples(folder: Path) -> list[Path]:
    """Draw the example images into `folder`, as JPEG.

    Raises:
        BinsegError: the folder cannot be written.
    """
    paths = [folder / f"scene_{number}.jpg" for number in range(1, len(_SCENES) + 1)]
    for path, (seed, index) in zip(paths, _SCENES, strict=True):
        write_image(path, draw_scene(seed, index, _SIZE).image)
    return paths
