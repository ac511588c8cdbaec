"""Puts libbinseg and the configurations into the wheel; all else is in pyproject.toml.

The wheel is for this platform and for every Python 3. Without a C++ compiler it still builds, for
all platforms: packed networks then run by the slow reference.
"""

import functools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


@functools.cache
def library() -> Path | None:
    """libbinseg, built where a checkout has it, if its sources have changed; None without one."""
    done = subprocess.run(
        [sys.executable, "-m", "binseg.runtime.build"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["the build failed"])[-1]
        print(f"warning: binseg is built without libbinseg: {reason}", file=sys.stderr)
        return None
    return Path(done.stdout.strip())


class BuildPackage(build_py):
    """Adds libbinseg and configs/ to the modules; an editable install uses them where they are."""

    def run(self) -> None:
        if not self.editable_mode:  # what was deleted since the last build must not come along
            shutil.rmtree(Path(self.build_lib) / "binseg", ignore_errors=True)
        super().run()
        found = library()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "binseg"
        shutil.copytree(ROOT / "configs", package / "configs", dirs_exist_ok=True)
        if found is not None:
            shutil.copy2(found, package / "runtime")


class PlatformWheel(bdist_wheel):
    """Tags a wheel that holds libbinseg: it needs a platform, but no certain Python."""

    def run(self) -> None:
        if library() is not None:
            self.root_is_pure = False
            # what setuptools asks when it chooses between the two places for packages
            self.distribution.has_ext_modules = lambda: True
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)


commands: dict[str, Any] = {"build_py": BuildPackage, "bdist_wheel": PlatformWheel}
setup(cmdclass=commands)
