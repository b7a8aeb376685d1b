"""Frozen weights split over the processes of a training: PyTorch's FSDP2, the engine below accelerate's.

Adapters are small and stay whole; accelerate's data parallelism adds up their gradients. Nothing is split where one
process trains alone.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.distributed import get_world_size, is_initialized
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def shard(network: nn.Module, blocks: Collection[str]) -> None:
    """Split the frozen weights of `network` in place; forward and backward passes gather them block by block.

    Every process must then call `network` as often as the others, except within `unsharded`.

    blocks: the names of the classes that are gathered at a time; weights outside of them stay whole.
    """
    if not is_initialized() or get_world_size() == 1 or any(isinstance(part, FSDPModule) for part in network.modules()):
        return
    whole = {weight for weight in network.parameters() if weight.requires_grad or not weight.is_floating_point()}
    device = next(network.parameters()).device.type
    mesh = init_device_mesh(device, (get_world_size(),))
    # Children first: a module's group is what no module within it has claimed.
    for module in reversed(list(network.modules())):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=whole)


def group_bytes(network: nn.Module, blocks: Collection[str], whole: Collection[Tensor] = ()) -> list[int]:
    """The bytes of each group of frozen weights that `shard` splits, without those that stay `whole`."""
    groups, left = [], {weight for weight in network.parameters() if not weight.requires_grad} - set(whole)
    for module in reversed(list(network.modules())):
        if type(module).__name__ in blocks:
            own = left & set(module.parameters())
            left -= own
            groups.append(sum(weight.nbytes for weight in own))
    return groups


@contextmanager
def unsharded(network: nn.Module) -> Iterator[None]:
    """A context in which every process has all weights of `network` and may call it without the others."""
    parts = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()
