"""`binseg models`: the names that --model.name takes."""


def models() -> int:
    """List the networks that can be trained, and where they come from."""
    from binseg.nn.backbones import backbone_source, list_backbones
    from binseg.nn.baselines import BASELINES
    from binseg.nn.segmenter import list_models

    dense = list_backbones()
    smp = dict.fromkeys(list_models(), "segmentation-models-pytorch")
    sources = smp | {name: backbone_source(name) for name in list_backbones(dense=False)}
    sources |= {name: f"{each.source} (full precision)" for name, each in BASELINES.items()}
    width = max(map(len, sources))

    def print_rows(names: list[str]) -> None:
        for name in names:
            print(f"{name:{width}}  {sources[name]}")

    print_rows(list_models())
    print("\nfor binseg pretrain only:")
    print_rows([name for name in list_backbones(dense=False) if name not in dense])
    return 0
