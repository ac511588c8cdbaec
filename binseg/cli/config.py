"""`binseg config`: the experiments' configurations that come with binseg."""

from collections.abc import Sequence
from pathlib import Path

from binseg.errors import BinsegError
from binseg.shipped_configs import shipped_configs


def config_ls() -> int:
    """List the configurations for train, pretrain and compare, by name."""
    for name, path in shipped_configs().items():
        print(f"{name:42}{_about(path)}".rstrip())
    return 0


def config_cp(name: str, out: Path | None = None) -> int:
    """Copy a configuration, to change it and give it to `--config`.

    Args:
        name: one that `binseg config ls` lists.
        out: file to write, or an existing folder (default: NAME.yaml here); no file is ever
            overwritten.
    """
    from binseg.atomic import atomic_path
    from binseg.shipped_configs import config_file

    source = config_file(name)
    target = Path(source.name) if out is None else out / source.name if out.is_dir() else out
    if target.exists():
        raise BinsegError(f"{target}: is there already; give another name with --out")
    with atomic_path(target) as temporary:
        temporary.write_bytes(source.read_bytes())
    print(target)
    return 0


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, with the file in place of the name of a shipped configuration
    after `--config`, unless there is a file of this name."""
    result: list[str] = []
    for before, text in zip(["", *arguments], arguments, strict=False):
        option, equals, value = text.partition("=")
        if before == "--config":
            result.append(_file(text))
        elif option == "--config" and equals:
            result.append(f"{option}={_file(value)}")
        else:
            result.append(text)
    return result


def _file(name: str) -> str:
    if Path(name).exists():
        return name
    return str(shipped_configs().get(name.removesuffix(".yaml").removeprefix("configs/"), name))


def _about(path: Path) -> str:
    """The first line of a file's comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
