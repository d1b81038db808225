"""Merkle trees laid out as ``@openzeppelin/merkle-tree`` 1.x lays out its StandardMerkleTree.

The tree is one list: node 0 is the root, the children of node i are 2i+1 and 2i+2, the leaves stand at
the end in reverse order of their hashes. Pairs are hashed sorted, so a proof needs no left or right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ProtocolError
from .protocol import keccak256


def hash_pair(a: bytes, b: bytes) -> bytes:
    """keccak256 of the two nodes, the smaller first."""
    return keccak256(a + b if a < b else b + a)


@dataclass(frozen=True)
class MerkleTree:
    """A built tree: ``nodes`` as above, ``positions`` from leaf to index."""

    nodes: tuple[bytes, ...]
    positions: dict[bytes, int]

    @classmethod
    def of(cls, leaves: Sequence[bytes]) -> MerkleTree:
        """Build from leaves in any order. Raises ProtocolError when empty or when a leaf comes twice."""
        if not leaves:
            raise ProtocolError("a tree needs at least one leaf")
        ordered = sorted(leaves)
        if any(len(leaf) != 32 for leaf in ordered):
            raise ProtocolError("a leaf has 32 bytes")
        for one, other in zip(ordered, ordered[1:], strict=False):
            if one == other:
                raise ProtocolError(f"leaf 0x{one.hex()} comes twice")
        size = 2 * len(ordered) - 1
        nodes: list[bytes] = [b""] * size
        for index, leaf in enumerate(ordered):
            nodes[size - 1 - index] = leaf
        for index in range(size - 1 - len(ordered), -1, -1):
            nodes[index] = hash_pair(nodes[2 * index + 1], nodes[2 * index + 2])
        return cls(tuple(nodes), {leaf: size - 1 - index for index, leaf in enumerate(ordered)})

    @property
    def root(self) -> bytes:
        return self.nodes[0]

    def proof(self, leaf: bytes) -> list[bytes]:
        """Siblings from the leaf up to the root; KeyError-free: ProtocolError if the leaf is not in the tree."""
        index = self._position(leaf)
        path = []
        while index:
            path.append(self.nodes[index + 1 if index % 2 else index - 1])
            index = (index - 1) // 2
        return path

    def multi_proof(self, leaves: Sequence[bytes]) -> tuple[list[bytes], list[bytes], list[bool]]:
        """``(leaves in the order the contract needs, proof, flags)`` for OpenZeppelin's multi-proof."""
        wanted = sorted((self._position(leaf) for leaf in leaves), reverse=True)
        if not wanted or len(set(wanted)) != len(wanted):
            raise ProtocolError("a multi-proof is for one or more different leaves")
        stack, proof, flags = list(wanted), [], []
        head = 0
        while head < len(stack) and stack[head] > 0:
            index = stack[head]
            head += 1
            sibling = index + 1 if index % 2 else index - 1
            if head < len(stack) and stack[head] == sibling:
                flags.append(True)
                head += 1
            else:
                flags.append(False)
                proof.append(self.nodes[sibling])
            stack.append((index - 1) // 2)
        return [self.nodes[i] for i in wanted], proof, flags

    def _position(self, leaf: bytes) -> int:
        if leaf not in self.positions:
            raise ProtocolError(f"leaf 0x{leaf.hex()} is not in this tree")
        return self.positions[leaf]


def root_from_proof(leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root a proof leads to; compare it with the notarized one."""
    node = leaf
    for sibling in proof:
        node = hash_pair(node, sibling)
    return node
