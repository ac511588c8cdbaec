"""Print the lowest versions that pyproject.toml allows, as constraints for pip: `make floors`."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
LEFT_OUT = ("dev", "all")


def floors() -> list[str]:
    """`name==version` of each package that people install, without those for developers."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(each for name, extra in extras.items() if name not in LEFT_OUT for each in extra),
    ]
    found = (re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\d.]+)", text) for text in wanted)
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    print("\n".join(floors()))
