"""`binseg models`: shipped networks, and the architectures that --model.name takes."""

import sys


def models() -> int:
    """List shipped networks, which every command takes by name, and architectures, for training."""
    from binseg.shipped import shipped_models

    print("shipped networks (for predict, evaluate, bench, demo, …; trained and packed):")
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
        print(f"\nto list the architectures, {advice}", file=sys.stderr)
        return 0

    dense = list_backbones()
    smp = dict.fromkeys(list_models(), "segmentation-models-pytorch")
    sources = smp | {name: backbone_source(name) for name in list_backbones(dense=False)}
    sources |= {name: f"{each.source} (full precision)" for name, each in BASELINES.items()}
    width = max(map(len, sources))

    def print_rows(names: list[str]) -> None:
        for name in names:
            print(f"{name:{width}}  {sources[name]}")

    print("\narchitectures (for --model.name; not trained):")
    print_rows(list_models())
    print("\narchitectures for binseg pretrain only:")
    print_rows([name for name in list_backbones(dense=False) if name not in dense])
    return 0
