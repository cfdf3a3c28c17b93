"""What remains of a grammar after the beginning of a text: the grammar under which a reply is continued."""

from dataclasses import dataclass

from .tree import Tree


@dataclass(frozen=True, slots=True)
class Rest:
    """The texts that may follow in the middle of another grammar, as a tree. A matcher makes it; it crosses no process,
    since the engine gets it printed."""

    tree: Tree
