"""`binseg models`: the names that --model.name takes."""


def models() -> int:
    """List the networks that can be trained, one name a line."""
    from binseg.nn.segmenter import list_models

    print("\n".join(list_models()))
    return 0
