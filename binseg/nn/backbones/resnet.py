"""Binary ResNets of one branch and their real-valued twins: a block and a table of families."""

from dataclasses import replace
from functools import partial
from typing import Any

from binseg.nn.backbones.registry import register_backbone
from binseg.nn.backbones.residual import ResidualBlock, ResNetOptions
from binseg.nn.backbones.stages import BlockPlan, StagedBackbone, plan_stages
from binseg.nn.backbones.stems import create_stem, stem_stride


class ResNet(StagedBackbone):
    """The stem and the stages of residual blocks."""

    def __init__(self, options: ResNetOptions) -> None:
        stem = create_stem(options.stem, options.width)
        super().__init__(stem, _plans(options), partial(ResidualBlock, options))
        self.options = options
        self.final_relu = options.final_relu


def _plans(options: ResNetOptions) -> list[list[BlockPlan]]:
    """The blocks of each stage, as many as there are shortcuts."""
    stages = plan_stages(
        options.depth, options.width, options.output_stride, stem_stride=stem_stride(options.stem)
    )
    if options.shortcut == "block":
        return stages
    return [
        [
            half
            for plan in stage
            for half in (plan, replace(plan, in_channels=plan.out_channels, stride=1))
        ]
        for stage in stages
    ]


# Hubara et al. 2016, "Binarized Neural Networks", sections 1.1 to 1.3, on ResNet's blocks: no
# scale, and a hardtanh that the clipped gradient stands for.
_BNN: dict[str, Any] = {"shortcut": "block", "gradient": "ste", "stem": "conv7"}
# Liu et al. 2018, "Bi-Real Net" (arXiv 1808.00278), sections 3.2 to 3.4.
_BI_REAL: dict[str, Any] = {"scale": "filter"}
# Bethge et al. 2019, "Back to Simplicity" (arXiv 1906.08637), sections 3 and 4.
_RESNET_E: dict[str, Any] = {
    "gradient": "ste",
    "clip": 1.25,
    "stem": "conv7_relu",
    "final_relu": True,
}
# Xue et al. 2021, "Self-Distribution Binary Neural Networks" (arXiv 2103.02394), section 3; the
# gradients and nonlinearities are those of the released code, where they differ between the
# networks for ImageNet and for CIFAR-10.
_SD_BNN: dict[str, Any] = {"threshold": "adaptive", "shifted_weight": True}
_SD_BNN_IMAGENET: dict[str, Any] = {**_SD_BNN, "nonlinearity": "prelu"}
_SD_BNN_CIFAR: dict[str, Any] = {
    **_SD_BNN,
    "stem": "conv3",
    "reduction": 16,
    "nonlinearity": "hardtanh",
    "gradient": "ede",
    "weight_gradient": "ede",
}
# Liu et al. 2020, "ReActNet" (arXiv 2003.03488), section 4.2, on Bi-Real Net's topology.
_REACT_NET: dict[str, Any] = {"scale": "filter", "threshold": "learnt", "nonlinearity": "rprelu"}


def _register(name: str, source: str, *, dense: bool = True, **defaults: Any) -> None:
    @register_backbone(name, options=ResNetOptions, dense=dense, source=source)
    def build(**overrides: Any) -> ResNet:
        return ResNet(ResNetOptions(**{**defaults, **overrides}))


for _depth in (18, 34):
    _register(f"bnn{_depth}", "Hubara et al. 2016, BNN", depth=_depth, **_BNN)
    _register(f"bireal{_depth}", "Liu et al. 2018, Bi-Real Net", depth=_depth, **_BI_REAL)
    _register(f"resnete{_depth}", "Bethge et al. 2019, ResNetE", depth=_depth, **_RESNET_E)
    _register(f"sdbnn{_depth}", "Xue et al. 2021, SD-BNN", depth=_depth, **_SD_BNN_IMAGENET)
    _register(f"reactnet{_depth}", "Liu et al. 2020, ReActNet", depth=_depth, **_REACT_NET)
_register(
    "sdbnn18_cifar",
    "Xue et al. 2021, SD-BNN for CIFAR-10",
    dense=False,
    depth=18,
    shortcut="block",
    **_SD_BNN_CIFAR,
)
_register(
    "sdbnn20_cifar",
    "Xue et al. 2021, SD-BNN for CIFAR-10",
    dense=False,
    depth=20,
    width=16,
    **_SD_BNN_CIFAR,
)
