"""Re-estimated statistics against means worked out batch by batch."""

import pytest
import torch
from torch import nn

from binseg.training.batchnorm import reestimate_batchnorm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.Conv2d(4, 2, 1),
        nn.BatchNorm2d(2),
    )


def test_means_over_batches_weighted_by_images():
    net = network()
    batches = [torch.randn(4, 3, 5, 5) * 3 + 1, torch.randn(2, 3, 7, 5)]
    assert reestimate_batchnorm(net, batches, lambda x: x * 2) == 6
    with torch.no_grad():
        first = [net[0](x * 2).double() for x in batches]
        means = [y.mean((0, 2, 3)) for y in first]
        variances = [y.var((0, 2, 3)) for y in first]
        # the second BatchNorm sees what the first makes with each batch's own statistics
        norm = net[1]
        spreads = [y.var((0, 2, 3), unbiased=False).add(norm.eps).sqrt() for y in first]
        normed = [
            (y - m.view(1, -1, 1, 1)) / spread.view(1, -1, 1, 1)
            for y, m, spread in zip(first, means, spreads, strict=True)
        ]
        second = [net[3](y.float()).double().mean((0, 2, 3)) for y in normed]
    torch.testing.assert_close(norm.running_mean.double(), (4 * means[0] + 2 * means[1]) / 6)
    torch.testing.assert_close(norm.running_var.double(), (4 * variances[0] + 2 * variances[1]) / 6)
    torch.testing.assert_close(
        net[4].running_mean.double(), (4 * second[0] + 2 * second[1]) / 6, rtol=1e-4, atol=1e-5
    )


def test_it_leaves_modes_momenta_and_weights_alone():
    net = network()
    net[3].eval()
    net[1].momentum = 0.25
    weights = [p.clone() for p in net.parameters()]
    reestimate_batchnorm(net, [torch.randn(2, 3, 4, 4)], lambda x: x)
    assert [m.training for m in net] == [True, True, True, False, True]
    assert net[1].momentum == 0.25
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))


def test_the_order_of_batches_does_not_matter():
    batches = [torch.randn(3, 3, 4, 4) for _ in range(7)]
    results = []
    for order in (batches, batches[::-1]):
        net = network()
        reestimate_batchnorm(net, order, lambda x: x)
        results.append([b.clone() for b in net.buffers() if b.is_floating_point()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_without_images_nothing_changes():
    net = network()
    before = [b.clone() for b in net.buffers()]
    assert reestimate_batchnorm(net, [], lambda x: x) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, net.buffers(), strict=True))


def test_processes_do_not_wait_for_each_other_where_batchnorm_is_synchronised():
    """They may have different numbers of batches; each is normalised with its own statistics."""
    plain, synchronised = network(), nn.SyncBatchNorm.convert_sync_batchnorm(network())
    batches = [torch.randn(4, 3, 5, 5)]
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        with pytest.raises(ValueError, match="SyncBatchNorm"):
            synchronised.train()(batches[0])  # on GPUs it would wait for the others
        for net in (plain, synchronised):
            reestimate_batchnorm(net, batches, lambda x: x)
        with pytest.raises(ValueError, match="SyncBatchNorm"):
            synchronised.train()(batches[0])
    finally:
        torch.distributed.destroy_process_group()
    for name, buffer in plain.named_buffers():
        if "running" in name:
            torch.testing.assert_close(synchronised.get_buffer(name), buffer)
