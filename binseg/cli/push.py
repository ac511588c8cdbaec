"""`binseg push`: a model file to the Hugging Face Hub."""

from pathlib import Path

from binseg.errors import BinsegError


def push(model: Path, name: str, *, private: bool = False, card: Path | None = None) -> int:
    """Upload a model file to the Hugging Face Hub, with a card made from its header.

    Log in first: `hf auth login`, or the environment variable HF_TOKEN.

    Args:
        model: model file, run folder or shipped name.
        name: hf:user/name; the repository is made if there is none.
        private: make a new repository private.
        card: Markdown file to upload in place of the one made from the header.
    """
    from binseg import hub
    from binseg.loaded import read_header
    from binseg.model_card import model_card
    from binseg.shipped import resolve

    if not hub.is_hub_name(name):
        raise BinsegError(f"{name}: not a model's name on the hub; write hf:user/name")
    if hub.is_hub_name(str(model)):
        raise BinsegError(f"{model}: is on the hub already; give a file")
    path = resolve(model)
    header = read_header(path)  # refuses foreign files
    if card is None:
        text = model_card(header, path.stat().st_size, name)
    else:
        try:
            text = card.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BinsegError(f"{card}: cannot be read as text; check --card") from error
    print(f"uploaded to {hub.push(path, name, text, private=private)}")
    print(f"try it: binseg predict {name} IMAGE --out result")
    return 0
