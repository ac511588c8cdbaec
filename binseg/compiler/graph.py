"""The graph that the passes rewrite: nodes that become operators of a program, and their values.

A node begins as a layer of the trained network and ends as an operator of docs/program.md. Its
tensors are float64 until they are written, so that nothing is rounded twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from binseg.errors import BinsegError


@dataclass(eq=False)
class Value:
    """What a node gives and others read.

    Attributes:
        channels: C; of a map of K bases all K·C.
        kind: "image", "real", "bits" or "bytes".
        pixel: whether it has one pixel, whatever the image's size.
        branches: maps that the trained network's code takes for images of a batch, while a layer
            serves them all; they lie side by side in the channels here.
        node, role: where it comes from.
    """

    channels: int
    kind: str
    pixel: bool
    branches: int
    node: "Node"
    role: str


@dataclass(eq=False)
class Node:
    """A layer on its way to become an operator.

    Attributes:
        kind: of the operator, or of a layer that passes still have to rewrite.
        inputs: values read, in the operator's order.
        name: of the layer in the trained network, for messages and tensors' names.
        attributes: of the operator.
        tensors: role → tensor.
        layer: the trained layer, where a pass looks into it.
        outputs: role → value.
    """

    kind: str
    inputs: list[Value]
    name: str
    attributes: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    layer: nn.Module | None = None
    outputs: dict[str, Value] = field(default_factory=dict)

    @property
    def result(self) -> Value:
        """Its only value."""
        (value,) = self.outputs.values()
        return value

    def give(
        self,
        role: str,
        channels: int,
        *,
        kind: str = "real",
        pixel: bool = False,
        branches: int = 1,
    ) -> Value:
        """Make the value of `role`."""
        value = Value(channels, kind, pixel, branches, self, role)
        self.outputs[role] = value
        return value

    def take_over(self, value: Value, role: str) -> None:
        """Be the one that gives `value` from now on."""
        if value.node is not self:
            value.node.outputs.pop(value.role, None)
        else:
            self.outputs.pop(value.role, None)
        value.node, value.role = self, role
        self.outputs[role] = value


class Graph:
    """Nodes in an order in which they can be run; the last one, of kind "output", reads the scores.

    Attributes:
        nodes: all of them.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(
        self,
        kind: str,
        inputs: Iterable[Value],
        name: str,
        *,
        at: Node | None = None,
        attributes: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        layer: nn.Module | None = None,
    ) -> Node:
        """A new node without values: before the node `at`, or at the end."""
        node = Node(kind, list(inputs), name, dict(attributes or {}), dict(tensors or {}), layer)
        self.nodes.insert(len(self.nodes) if at is None else self.nodes.index(at), node)
        return node

    def remove(self, node: Node) -> None:
        """Take out a node whose values nobody reads."""
        self.nodes.remove(node)

    def of(self, *kinds: str) -> list[Node]:
        """The nodes of these kinds, as they are now."""
        return [node for node in self.nodes if node.kind in kinds]

    def users(self, value: Value) -> list[Node]:
        """The nodes that read `value`, each once."""
        return [node for node in self.nodes if any(each is value for each in node.inputs)]

    def only_user(self, value: Value, *kinds: str) -> Node | None:
        """The one node that reads `value`, if there is but one and it is of one of `kinds`."""
        users = self.users(value)
        if len(users) != 1 or users[0].kind not in kinds:
            return None
        return users[0] if sum(each is value for each in users[0].inputs) == 1 else None

    def replace(self, old: Value, new: Value) -> None:
        """Let every reader of `old` read `new`."""
        for node in self.nodes:
            node.inputs = [new if each is old else each for each in node.inputs]

    def sort(self) -> None:
        """Put the nodes in an order in which they can be run, as close to the old one as it goes.

        Raises:
            BinsegError: a node depends on itself.
        """
        done: set[Node] = set()
        waiting: set[Node] = set()
        order: list[Node] = []
        for start in self.nodes:
            trail = [start]
            while trail:
                node = trail[-1]
                if node in done:
                    trail.pop()
                    continue
                before = [each.node for each in node.inputs if each.node not in done]
                if not before:
                    done.add(node)
                    waiting.discard(node)
                    order.append(node)
                    trail.pop()
                    continue
                waiting.add(node)
                if any(each in waiting for each in before):
                    raise BinsegError(f"{node.name} depends on itself")
                trail += reversed(before)
        self.nodes = order

    def sweep(self) -> None:
        """Remove the nodes and the values that nobody reads, the output and the image excepted."""
        for node in reversed(self.nodes):
            read = {each for other in self.nodes for each in other.inputs}
            if node.kind in ("output", "image"):
                continue
            node.outputs = {role: value for role, value in node.outputs.items() if value in read}
            if not node.outputs:
                self.nodes = [each for each in self.nodes if each is not node]
