"""Re-estimation of BatchNorm's running statistics.

While a binary network trains, its weights flip faster than running averages follow, and augmented
batches differ from whole images; scored with the running statistics of training, a healthy
network can look dead. So they are measured anew over unaugmented images before each validation.
"""

from collections.abc import Callable, Iterable
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def reestimate_batchnorm(
    network: nn.Module, batches: Iterable[Tensor], prepare: Callable[[Tensor], Tensor]
) -> int:
    """Replace the running mean and variance of every BatchNorm by their mean over `batches`.

    Each batch is normalised with its own statistics, so batches do not depend on one another: when
    torch.distributed is up, each process may bring a part of them and all end with the same
    statistics. Everything but BatchNorm (dropout, say) is in eval mode meanwhile; the modes of all
    modules are restored. A batch counts with its number of images.

    Args:
        network: takes what `prepare` returns.
        batches: e.g. uint8 (N, 3, H, W).
        prepare: from a batch to the network's input on its device.

    Returns:
        The number of images seen by all processes; with 0 nothing is changed.
    """
    norms = [
        m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None
    ]
    modes = {module: module.training for module in network.modules()}
    momenta = [norm.momentum for norm in norms]
    before = [_statistics(norm).clone() for norm in norms]
    sums = [torch.zeros_like(stats) for stats in before]
    images = 0
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the running statistics are then those of the latest batch
        if isinstance(norm, nn.SyncBatchNorm):
            # processes may have different numbers of batches, and must not wait for each other
            norm.forward = MethodType(_BatchNorm.forward, norm)  # type: ignore[method-assign]
    try:
        for batch in batches:
            network(prepare(batch))
            for total, norm in zip(sums, norms, strict=True):
                total += len(batch) * _statistics(norm)
            images += len(batch)
        images = _sum_over_processes(sums, images)
        for norm, total, old in zip(norms, sums, before, strict=True):
            mean, variance = total / images if images else old
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.__dict__.pop("forward", None)
        for module, mode in modes.items():
            module.training = mode
    return images


def _statistics(norm: _BatchNorm) -> Tensor:
    """float64 (2, C): running mean and variance. float64 keeps the sum's order from mattering."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return torch.stack([norm.running_mean, norm.running_var]).double()


def _sum_over_processes(sums: list[Tensor], images: int) -> int:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return images
    device = sums[0].device if sums else torch.device("cpu")
    count = torch.tensor([images], dtype=torch.int64, device=device)
    for tensor in [count, *sums]:
        torch.distributed.all_reduce(tensor)
    return int(count)
