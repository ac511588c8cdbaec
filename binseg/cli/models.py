"""`binseg models`: shipped networks, and the names that --model.name takes."""

import sys


def models() -> int:
    """List the packed networks that come with binseg and the networks that can be trained."""
    from binseg.shipped import shipped_models

    print("come with binseg, packed:")
    for name, model in shipped_models().items():
        print(f"{name}  {model.path.stat().st_size:,} bytes")
    try:
        from binseg.nn.backbones import backbone_source, list_backbones
        from binseg.nn.baselines import BASELINES
        from binseg.nn.segmenter import list_models
    except ModuleNotFoundError as error:
        from binseg.cli.missing import install_advice

        if (advice := install_advice(error)) is None:
            raise
        print(f"\nto list those that can be trained, {advice}", file=sys.stderr)
        return 0

    dense = list_backbones()
    smp = dict.fromkeys(list_models(), "segmentation-models-pytorch")
    sources = smp | {name: backbone_source(name) for name in list_backbones(dense=False)}
    sources |= {name: f"{each.source} (full precision)" for name, each in BASELINES.items()}
    width = max(map(len, sources))

    def print_rows(names: list[str]) -> None:
        for name in names:
            print(f"{name:{width}}  {sources[name]}")

    print("\nto be trained:")
    print_rows(list_models())
    print("\nfor binseg pretrain only:")
    print_rows([name for name in list_backbones(dense=False) if name not in dense])
    return 0
