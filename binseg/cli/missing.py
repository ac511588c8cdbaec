"""What to install when a package is missing."""

import importlib.metadata
import re

_DISTRIBUTIONS = {
    "cityscapesscripts": "cityscapesScripts",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "pyyaml",
}
"""Where a module's distribution has another name."""

_FOR_DEVELOPERS = ("dev", "all")


def install_advice(error: ImportError) -> str | None:
    """One line that says which package is missing and how to get it.

    Returns:
        None if the error is no missing package but a fault of the program.
    """
    if "pip install" in str(error):  # whoever raised it knew better
        return " ".join(str(error).split())
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    module = error.name.partition(".")[0]
    if module == "binseg":
        return None
    package = _DISTRIBUTIONS.get(module, module.replace("_", "-"))
    return f"this needs the package {package}, which is not installed; {install_command(package)}"


def install_command(package: str) -> str:
    """What to type to get a package: by binseg's extra that brings it, if one does."""
    extra = _extra_of(package)
    return "pip install " + (f"'binseg[{extra}]'" if extra else package)


def _extra_of(package: str) -> str | None:
    """The extra of binseg that brings a package, if one does."""
    try:
        requirements = importlib.metadata.requires("binseg") or []
    except importlib.metadata.PackageNotFoundError:  # a source tree that was never installed
        return None
    wanted = _normalized(package)
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", requirement)
        if name and extra and _normalized(name[0]) == wanted and extra[1] not in _FOR_DEVELOPERS:
            return extra[1]
    return None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
