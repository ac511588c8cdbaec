"""The sub-commands: where each lives, what it takes by position, what its short help shows."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Command:
    """A sub-command.

    Attributes:
        function: "module:function" below binseg.cli.
        summary: what it does, in a line.
        positional: parameters without a name on the command line → their nargs.
        common: options that --help shows, in this order; without any, all of its own.
        models: parameters that take a model: a file, a run folder or a shipped name.
        renamed: old names of options, which work for one release → new ones.
        reads_data: takes the configuration of a whole experiment, of which it reads the data part;
            of a run folder as its first argument, that of the run if no data set is named.
    """

    function: str
    summary: str
    positional: dict[str, str | None] = field(default_factory=dict)
    common: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    reads_data: bool = False


_DATA = ("config", "data.name", "data.root", "data.relabel", "data.classes")
_REST = {"rest": "other_layers"}

COMMANDS = {
    "quickstart": Command(
        "quickstart:quickstart", "train, score and compare two networks on built-in scenes"
    ),
    "train": Command(
        "train:train_command",
        "train a network",
        common=(
            *("config", "out", "resume", "data.name", "data.root", "data.short_side", "data.crop"),
            *("data.batch_size", "data.workers", "model.name", "model.start", "model.precision"),
            *("model.bases", "model.backbone_weights", "optimizer.lr"),
            *("distillation.teacher", "trainer.epochs", "trainer.precision", "trainer.devices"),
        ),
    ),
    "pretrain": Command(
        "pretrain:pretrain",
        "pretrain a backbone on labelled images",
        common=(
            *("config", "out", "resume", "data.name", "data.root", "data.download", "data.size"),
            *("data.batch_size", "data.workers", "model.name", "model.precision", "model.bases"),
            *("model.width", "optimizer.lr", "loss.mixup", "distillation.teacher"),
            *("trainer.epochs", "trainer.precision", "trainer.devices", "trainer.seed"),
        ),
    ),
    "evaluate": Command(
        "evaluate:evaluate_command",
        "score a model on labelled images",
        {"model": "?"},
        common=(
            *_DATA,
            *("split", "out", "protocol.name", "device", "predictions", "export", "official"),
            "against",
        ),
        models=("model", "against"),
        reads_data=True,
    ),
    "predict": Command(
        "predict:predict",
        "segment images",
        {"model": None, "images": "+"},
        common=(
            *("out", "protocol.name", "overlay", "alpha", "device", "continue", "workers", "shard"),
            *("frames", "ray"),
        ),
        models=("model",),
    ),
    "calibrate": Command(
        "calibrate:calibrate_command",
        "measure a trained network anew on images",
        {"model": None},
        common=(
            *("config", "out", "data.name", "data.root", "data.calibration_images"),
            *("statistics", "biases", "device"),
        ),
        models=("model",),
        reads_data=True,
    ),
    "pack": Command(
        "pack:pack_command",
        "write a trained network as bits",
        {"model": None},
        models=("model",),
        renamed={**_REST, "least_agreement": "min_agreement"},
    ),
    "export": Command(
        "export:export",
        "write a trained network as ONNX, for OpenVINO, or as a web page",
        {"model": "+"},
        models=("model",),
    ),
    "push": Command(
        "push:push",
        "upload a model to the Hugging Face Hub",
        {"model": None, "name": None},
        models=("model",),
    ),
    "data import": Command(
        "data_import:data_import",
        "turn annotations of another tool into a folder to train on",
        {"source": None},
    ),
    "data check": Command(
        "data_check:data_check",
        "look for faults in a data set",
        common=(*_DATA, "data.train_split", "data.merge", "workers", "out"),
        reads_data=True,
    ),
    "data show": Command(
        "data_show:data_show",
        "write samples as a training sees them",
        common=(*_DATA, "data.crop", "out", "count", "split", "epoch"),
        reads_data=True,
    ),
    "data bench": Command(
        "data_bench:data_bench",
        "how fast images are loaded, and why",
        common=(*_DATA, "workers", "batches", "images", "rounds", "force", "out"),
        renamed={"pictures": "images"},
        reads_data=True,
    ),
    "data prepare": Command(
        "data_prepare:data_prepare", "download or check a benchmark's files", {"name": None}
    ),
    "config ls": Command("config:config_ls", "list the experiments' configurations"),
    "config cp": Command("config:config_cp", "copy one, to change it", {"name": None}),
    "bench": Command(
        "bench:bench",
        "speed, size and memory beside fp32, bf16 and int8",
        {"network": "?"},
        common=(
            *("parts", "threads", "size", "bases", "classes", "isa", "device", "quick", "force"),
            *("model.precision", "model.bases", "out"),
        ),
        models=("network",),
    ),
    "compare": Command(
        "compare:compare",
        "train networks under one recipe, one table of all",
        common=(
            *("config", "out", "networks", "data.name", "data.root", "trainer.epochs"),
            *("trainer.devices", "seeds", "other_layers", "latency.int8", "reference", "against"),
            *("only", "report"),
        ),
        renamed=_REST,
    ),
    "summary": Command(
        "summary:summary_command",
        "what of a network is 1 bit, layer by layer",
        {"network": None},
        common=(
            *("model.precision", "model.bases", "model.width", "classes", "size", "json", "time"),
            *("other_layers", "rates"),
        ),
        models=("network",),
        renamed=_REST,
    ),
    "models": Command("models:models", "list shipped networks and architectures"),
    "demo": Command(
        "demo:demo", "show a model in the browser", {"models": "*"}, models=("models",)
    ),
    "doctor": Command("doctor:doctor", "build and test the 1-bit kernels, say what is missing"),
    "completion": Command(
        "completion:completion", "print completions for bash, zsh or fish", {"shell": None}
    ),
}

PACKED_SUMMARY = Command(
    "packed_summary:packed_summary",
    COMMANDS["summary"].summary,
    {"network": None},
    models=("network",),
)
"""Of `summary` where torch is not installed."""
