"""Everything an experiment is made of, as typed dataclasses that YAML and the command line fill."""

import math
import warnings
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from binseg.data.config import DataConfig
from binseg.errors import BinsegError, BinsegWarning
from binseg.network_options import (
    ActivationGradient,
    Atrous,
    Decomposition,
    Downsample,
    Gates,
    Merge,
    Shortcut,
    Stem,
    Threshold,
    WeightGradient,
    WeightScale,
)


def _check(name: str, value: float | None, low: float, high: float = math.inf) -> None:
    """Refuse a value outside [low, high], nan included; None passes."""
    if value is None or low <= value <= high:
        return
    wanted = "above 0" if low == _TINY else f"at least {low:g}"
    if low <= value or math.isnan(value):
        wanted += f" and at most {high:g}"
    raise BinsegError(f"{name} must be {wanted}, not {value:g}")


_TINY = 1e-30  # stands for "above 0"

HEAD_OPTIONS = {
    "head_kernel": "kernel_size",
    "dropout": "dropout",
    "aspp": "aspp",
    "aspp_bases": "bases",
    "aspp_rates": "rates",
}


DEFAULT_MODEL = "groupnet18"


@dataclass
class ModelConfig:
    """The network. A value of null means what the named model has by default.

    Args:
        name: one of `binseg models`, e.g. groupnet18 (default), groupnet18_star, smp_unet.
        start: trained model to begin at: a float model file, run folder, hf:user/name or shipped
            name. It brings architecture, weights and preprocessing along; outputs of
            classes that it does not have are new. Other keys of model must be left out or equal to
            its own (in pretraining: a classifier of the same architecture and classes).
        weights: old name of start; goes with the next release.
        backbone_weights: file of a pretrained backbone to start from, see `binseg pretrain`.
        precision: binary, or full for the full-precision twin.
        bases: K, 1 to 8.
        width: channels of the first stage; 64 in the paper.
        head: fcn (default), fcn32s, fcn16s, fcn8s, fcn4s or deeplabv3.
        head_kernel: kernel size of the head's first convolution, 3 or 1.
        dropout: probability in the head, 0 to 1.
        output_stride: input pixels to one of the last stage, 8, 16 or 32.
        gates: shared, per_branch or none.
        merge: learnt or mean.
        shortcut: around each block or each conv.
        nonlinearity: relu, tanh or prelu; in binary ResNets none, hardtanh, prelu or rprelu
            (ReActNet).
        downsample: binary or real 1x1 convolution in the shortcuts.
        stem: conv7, conv7_bn, conv7_relu or grouped3.
        atrous: bpac (base i at its own rate), one_rate or off.
        rates: rate of base 0 in stages 3 and 4 at output stride 8.
        padding_value: border of the binary convolutions, 1, -1 or 0.
        scale: scale factor of binary weights: none, layer or filter.
        weight_gradient: gradient of the weights' sign: identity, clip, ede or xnor.
        gradient: gradient of the activations' sign: approx, ste or ede.
        clip: where the clipped gradients of activations and weights end.
        threshold: threshold of the activations' sign: zero, learnt (ReActNet) or adaptive (SD-BNN).
        input_scale: multiply with the map of the input's magnitudes (XNOR-Net).
        decomposition: into K branches a group of blocks, or a layer (LBD).
        group_blocks: blocks to a group, 1 or 2; 0 makes the whole network one group (GBD v1 to v3).
        aspp: binary or real convolutions in the head deeplabv3.
        aspp_bases: K of its binary convolutions, 1 to 8.
        aspp_rates: dilations of its three 3x3 convolutions at output stride 8.
        encoder: encoder of the smp_ models, e.g. resnet34.
        encoder_weights: pretrained weights of that encoder, e.g. imagenet (smp downloads them).
    """

    name: str | None = None
    start: str | None = None
    weights: Path | None = None
    backbone_weights: Path | None = None
    precision: Literal["binary", "full"] | None = None
    bases: int | None = None
    width: int | None = None
    head: str | None = None
    head_kernel: int | None = None
    dropout: float | None = None
    output_stride: int | None = None
    gates: Gates | None = None
    merge: Merge | None = None
    shortcut: Shortcut | None = None
    # of all families; each takes its own of them
    nonlinearity: Literal["none", "relu", "tanh", "hardtanh", "prelu", "rprelu"] | None = None
    downsample: Downsample | None = None
    stem: Stem | None = None
    atrous: Atrous | None = None
    rates: tuple[int, int] | None = None
    padding_value: float | None = None
    scale: WeightScale | None = None
    weight_gradient: WeightGradient | None = None
    gradient: ActivationGradient | None = None
    clip: float | None = None
    threshold: Threshold | None = None
    input_scale: bool | None = None
    decomposition: Decomposition | None = None
    group_blocks: int | None = None
    aspp: Literal["binary", "real"] | None = None
    aspp_bases: int | None = None
    aspp_rates: tuple[int, int, int] | None = None
    encoder: str | None = None
    encoder_weights: str | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            if self.start not in (None, str(self.weights)):
                raise BinsegError("model.weights is the old name of model.start; leave it out")
            warnings.warn(
                "model.weights is now called model.start; the old name goes with the next release",
                BinsegWarning,
                stacklevel=3,
            )
            self.start, self.weights = str(self.weights), None

    @property
    def start_name(self) -> str | None:
        """What a model's card calls `start`: without folders."""
        if self.start is None or self.start.startswith("hf:"):
            return self.start
        return Path(self.start).name

    def arguments(self, num_classes: int) -> dict[str, Any]:
        """Keyword arguments of `binseg.create_model`: only what was set."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given["name"] = self.name or DEFAULT_MODEL
        del given["weights"], given["start"], given["backbone_weights"]
        head_options = {theirs: given.pop(ours) for ours, theirs in HEAD_OPTIONS.items()}
        given["head_options"] = {k: v for k, v in head_options.items() if v is not None} or None
        return {"num_classes": num_classes, **{k: v for k, v in given.items() if v is not None}}


@dataclass
class OptimizerConfig:
    """The optimizer and its schedule.

    Args:
        name: adamw, adam or sgd.
        lr: peak learning rate.
        weight_decay: for real weights only; binary weights, BatchNorm, gates and biases have none.
        momentum: momentum of SGD.
        head_lr_scale: factor of the head's learning rate (the paper's VOC recipe: 10).
        schedule: poly, cosine or constant.
        power: exponent of the poly schedule.
        warmup: share of the steps in which the learning rate rises from 0.
        clip_gradient: largest gradient norm; null for none.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    head_lr_scale: float = 1.0
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    power: float = 0.9
    warmup: float = 0.03
    clip_gradient: float | None = None

    def __post_init__(self) -> None:
        _check("optimizer.lr", self.lr, _TINY, 1e30)
        _check("optimizer.weight_decay", self.weight_decay, 0)
        _check("optimizer.momentum", self.momentum, 0, 1)
        _check("optimizer.head_lr_scale", self.head_lr_scale, 0, 1e30)
        _check("optimizer.power", self.power, 0)
        _check("optimizer.warmup", self.warmup, 0, 1)
        _check("optimizer.clip_gradient", self.clip_gradient, _TINY)


@dataclass
class LossConfig:
    """The loss: a pixel-wise term, and region terms added to it.

    Args:
        name: ce (cross-entropy), ohem (cross-entropy over hard pixels) or focal (each class against
            the rest, easy pixels damped).
        class_weights: weights of the pixel-wise term: none, median_frequency, log_frequency
            (milder: 1 / ln(1.02 + frequency), between 1.4 and 50), or weights by class name like
            {pole: 3.0}; classes that are not named have 1.
        ohem_threshold: pixels whose true class has a lower probability count.
        ohem_keep: share of the pixels that count at least.
        focal_gamma: how much focal damps easy pixels; 0: not at all.
        dice: weight of the Dice term.
        tversky: weight of the Tversky term, which is Dice with weights of its own for the two kinds
            of errors.
        tversky_alpha: weight of pixels wrongly given to a class (false positives).
        tversky_beta: weight of pixels of a class that it misses (false negatives).
        lovasz: weight of the Lovasz-softmax term.
        stride: all terms look at every n-th pixel in both directions; on a CPU the loss over all
            pixels can cost as much as the network, and neighbours say almost the same.
        region_stride: of those, Dice, Tversky and Lovasz look at every n-th; Lovasz sorts all
            pixels for each class.
    """

    name: Literal["ce", "ohem", "focal"] = "ce"
    class_weights: Literal["none", "median_frequency", "log_frequency"] | dict[str, float] = "none"
    ohem_threshold: float = 0.7
    ohem_keep: float = 0.1
    focal_gamma: float = 2.0
    dice: float = 0.0
    tversky: float = 0.0
    tversky_alpha: float = 0.3
    tversky_beta: float = 0.7
    lovasz: float = 0.0
    stride: int = 1
    region_stride: int = 1

    def __post_init__(self) -> None:
        _check("loss.ohem_threshold", self.ohem_threshold, 0, 1)
        _check("loss.ohem_keep", self.ohem_keep, 0, 1)
        _check("loss.focal_gamma", self.focal_gamma, 0, 100)
        _check("loss.dice", self.dice, 0, 1e30)
        _check("loss.tversky", self.tversky, 0, 1e30)
        _check("loss.tversky_alpha", self.tversky_alpha, 0, 1e30)
        _check("loss.tversky_beta", self.tversky_beta, 0, 1e30)
        if isinstance(self.class_weights, dict):
            for name, weight in self.class_weights.items():
                _check(f"loss.class_weights: the weight of {name}", weight, 0, 1e30)
        _check("loss.lovasz", self.lovasz, 0, 1e30)
        _check("loss.stride", self.stride, 1)
        _check("loss.region_stride", self.region_stride, 1)


@dataclass
class BinarizationConfig:
    """The steps to a binary network inside one run.

    Args:
        smooth_epochs: epochs at the start with real weights and a smooth function for the sign.
        smooth_activation: tanh or hardtanh, in those epochs.
        activation_epochs: epochs after that with binary activations and real weights.
        restart_schedule: let the learning-rate schedule begin anew with each step.
        ede_temperature: first and last temperature of the gradient "ede", log-spaced.
    """

    smooth_epochs: int = 0
    smooth_activation: Literal["tanh", "hardtanh"] = "tanh"
    activation_epochs: int = 0
    restart_schedule: bool = True
    ede_temperature: tuple[float, float] = (0.1, 10.0)

    def __post_init__(self) -> None:
        _check("binarization.smooth_epochs", self.smooth_epochs, 0)
        _check("binarization.activation_epochs", self.activation_epochs, 0)
        for temperature in self.ede_temperature:
            _check("binarization.ede_temperature", temperature, _TINY, 1e6)


@dataclass
class DistillationConfig:
    """Learning from a full-precision teacher, pixel by pixel.

    Args:
        teacher: model file of the teacher (also one of an smp_ model); null for none.
        weight: weight of the distillation term beside the loss.
        temperature: T of the softened distributions.
        sees: crops: each training crop as the student sees it; pictures: every whole image and
            its mirror image once, before the first step, and the mean of its scores is cut out
            with each crop. That costs a step next to nothing, however large the teacher is;
            memory: 2 bytes for each class and 16 pixels of the split. In pretraining, where only
            an encoder teaches so, the maps of the images without their mirror images.
    """

    teacher: Path | None = None
    weight: float = 1.0
    temperature: float = 4.0
    sees: Literal["crops", "pictures"] = "crops"

    def __post_init__(self) -> None:
        _check("distillation.weight", self.weight, 0, 1e30)
        _check("distillation.temperature", self.temperature, 1e-3, 1e6)


@dataclass
class TrainerConfig:
    """How long and on what.

    Args:
        epochs: passes over the training images.
        precision: fp32, bf16 (bfloat16 autocast), or fp16 (float16 autocast and a scaled loss; on
            GPUs only).
        accelerator: auto, cpu or cuda.
        devices: processes on this machine; under torchrun its own numbers are taken.
        accumulate: batches to one optimizer step.
        ema: decay of the moving average of the weights that is scored and saved, e.g. 0.999; 0 off.
        validate_every: epochs between validations.
        checkpoint_minutes: minutes between checkpoints inside an epoch; each epoch ends with one.
        overlays: validation images drawn into the run folder.
        seed: seed of initial weights, order, augmentation and dropout.
        threads: CPU threads of PyTorch; null leaves it alone.
        compile: make one program of the network's steps by torch.compile: half a minute and more
            at the start, then faster steps; on a CPU it needs a C++ compiler.
        patience: validations without a better score after which the training ends, counted once
            the network is binary; null: none.
        hours: after which the training ends, with a validation; those before it was resumed count;
            null: no limit. The learning rate goes by epochs: choose so many that they fit.
        sync_batchnorm: BatchNorm sees the batches of all processes as one; on GPUs only.
        logger: none, csv, tensorboard, wandb or mlflow: where figures go beside the run folder.
    """

    epochs: int = 30
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    accumulate: int = 1
    ema: float = 0.0
    validate_every: int = 1
    checkpoint_minutes: float = 5.0
    overlays: int = 4
    seed: int = 0
    threads: int | None = None
    compile: bool = False
    patience: int | None = None
    hours: float | None = None
    sync_batchnorm: bool = False
    logger: Literal["none", "csv", "tensorboard", "wandb", "mlflow"] = "none"

    def __post_init__(self) -> None:
        _check("trainer.epochs", self.epochs, 1)
        _check("trainer.devices", self.devices, 1)
        _check("trainer.accumulate", self.accumulate, 1)
        _check("trainer.ema", self.ema, 0, 0.999999)
        _check("trainer.validate_every", self.validate_every, 1)
        _check("trainer.checkpoint_minutes", self.checkpoint_minutes, 0)
        _check("trainer.overlays", self.overlays, 0)
        _check("trainer.seed", self.seed, 0, 2**31)
        _check("trainer.threads", self.threads, 1, 4096)
        _check("trainer.patience", self.patience, 1)
        _check("trainer.hours", self.hours, _TINY, 1e6)


@dataclass
class Experiment:
    """One training run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    binarization: BinarizationConfig = field(default_factory=BinarizationConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def to_plain(recipe: Any) -> dict[str, Any]:
    """A configuration, any of these dataclasses, as YAML values: no paths, no tuples."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return cast(dict[str, Any], plain(asdict(recipe)))
