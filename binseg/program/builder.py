"""Programs put together operator by operator."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from binseg.program.check import check
from binseg.program.program import IMAGE, Operator, Program, ProgramError


class ProgramBuilder:
    """Gives out numbers of values and collects tensors.

        builder = ProgramBuilder()
        builder.tensor("stem.scale", scale), builder.tensor("stem.shift", shift)
        (x,) = builder.add("normalize", [builder.image], ["real"],
                           tensors={"scale": "stem.scale", "shift": "stem.shift"})
        …
        program = builder.build(output=scores)

    Attributes:
        image: the value that is the image.
    """

    image = IMAGE

    def __init__(self) -> None:
        self._operators: list[Operator] = []
        self._tensors: dict[str, np.ndarray] = {}
        self._bfloat16: set[str] = set()
        self._values = 1

    def tensor(self, name: str, array: np.ndarray, *, bfloat16: bool = False) -> str:
        """Add a tensor; operators name it, one or several.

        Args:
            name: of its own.
            array: as docs/program.md, part 1, wants it (bits by `tensors.pack_bits`).
            bfloat16: whether a uint16 array holds bfloat16 (`tensors.to_bfloat16`).

        Returns:
            `name`.

        Raises:
            ProgramError: there is a tensor of this name already.
        """
        if name in self._tensors:
            raise ProgramError(f"there are two tensors '{name}'")
        self._tensors[name] = np.ascontiguousarray(array)
        if bfloat16:
            self._bfloat16.add(name)
        return name

    def has_tensor(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._tensors

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        roles: Sequence[str],
        *,
        tensors: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> tuple[int, ...]:
        """Add an operator; `build` checks it.

        Args:
            kind: see docs/program.md, part 2.
            inputs: values.
            roles: outputs that somebody reads.
            tensors: role → name of a tensor.
            attributes: plain JSON values. `from`, a word of Python, is given as `from_`.

        Returns:
            the value of each role.
        """
        values = tuple(range(self._values, self._values + len(roles)))
        self._values += len(roles)
        self._operators.append(
            Operator(
                kind,
                tuple(inputs),
                dict(zip(roles, values, strict=True)),
                dict(tensors or {}),
                {name.rstrip("_"): _plain(value) for name, value in attributes.items()},
            )
        )
        return values

    def build(self, output: int) -> Program:
        """The whole program, checked.

        Args:
            output: the value that holds the class scores.

        Raises:
            ProgramError: it breaks the definition.
        """
        program = Program(
            tuple(self._operators), output, dict(self._tensors), frozenset(self._bfloat16)
        )
        check(program)
        return program


def _plain(value: Any) -> Any:
    """Tuples as the lists that a file gives back."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
