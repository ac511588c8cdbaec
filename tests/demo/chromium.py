"""Where Chromium is, and how to get it: `python tests/demo/chromium.py` installs it if it can."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The browser's executable: the machine's own, else the one that playwright keeps."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "~/.cache/ms-playwright")).expanduser()
    return next(
        (str(path) for path in sorted(folder.glob("chromium-*/chrome-linux*/chrome"))), None
    )


def install_chromium() -> str | None:
    """Find Chromium, or install it: Debian's own as root, playwright's otherwise."""
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = ["chromium", "fonts-liberation"]
        ways = [
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
            *ways,
        ]
    for command in ways:
        if found := find_chromium():
            return found
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    return find_chromium()


if __name__ == "__main__":
    print(install_chromium() or "no Chromium, and none could be installed: browser tests skip")
