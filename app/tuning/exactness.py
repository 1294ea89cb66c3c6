"""How far a candidate's outputs are from the reference's. numpy is imported here, and only `pipeserve tune` does so."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

EXACT = 1e-4
"""The largest difference that still counts as float32's own rounding: sums in another order differ by less."""


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """difference: the largest of any two numbers. cosine_distance: 1 - the smallest cosine of any two vectors, for
    models that make vectors."""

    difference: float
    cosine_distance: float | None = None

    @property
    def worst(self) -> float:
        return max(self.difference, self.cosine_distance or 0.0)


def loss(outputs: Sequence[bytes], reference: Sequence[bytes], *, vector_size: int | None) -> Loss:
    """Each the float32 numbers of one item. Infinite where they are not of one size, or a number is none."""
    pairs = [(_array(one), _array(other)) for one, other in zip(outputs, reference, strict=True)]
    if any(one.shape != other.shape for one, other in pairs):
        return Loss(difference=float("inf"))
    difference = max((_largest(one, other) for one, other in pairs), default=0.0)
    if vector_size is None:
        return Loss(difference=difference)
    cosines = [_smallest_cosine(one.reshape(-1, vector_size), other.reshape(-1, vector_size)) for one, other in pairs]
    return Loss(difference=difference, cosine_distance=max(0.0, 1 - min(cosines, default=1.0)))


def _array(numbers: bytes) -> npt.NDArray[np.float32]:
    return np.frombuffer(numbers, dtype=np.float32)


def _largest(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Equal infinities (masked places) are no difference; a number that is none is an infinite one."""
    with np.errstate(invalid="ignore"):
        differences = np.where(one == other, 0.0, np.abs(one - other))
    return float(np.nan_to_num(differences, nan=np.inf, posinf=np.inf).max(initial=0.0))


def _smallest_cosine(rows: npt.NDArray[np.float32], other_rows: npt.NDArray[np.float32]) -> float:
    """In float64: in float32 a vector's cosine with itself is not quite 1. A vector of length 0 is as itself."""
    one, other = rows.astype(np.float64), other_rows.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = np.einsum("ij,ij->i", one, other)
    cosines = np.divide(products, lengths, out=np.ones_like(products), where=lengths > 0)
    return float(np.nan_to_num(cosines, nan=-1.0).min(initial=1.0))
