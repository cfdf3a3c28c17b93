"""References within a schema: JSON pointers, anchors, and the identifiers of embedded schemas.

A schema with `$id` (in draft 4 `id`) is a resource of its own: references in it are relative to its URI, pointers begin
at it. Nothing is fetched.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from ...text import one_line

MAX_URI = 2000  # characters: each reference is joined with the URI of its resource
_SHOWN = 200  # characters of a place in an error
_SINCE_DRAFT_6 = re.compile("draft-0[6-9]|draft/20")  # where `id` is an annotation
_BEFORE_DRAFT_2019 = re.compile("draft-0")  # where `$ref` stands alone


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A schema that references can begin at: the root, or one with an identifier. `anchors` are those inside it."""

    uri: str
    schema: Any
    anchors: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a value stands: at `step` of the place around it. Written as a JSON pointer."""

    step: str | int
    resource: Resource
    outer: "Place | None" = None

    def inside(self, *path: str | int) -> "Place":
        """Return a place inside it."""
        place = self
        for step in path:
            place = Place(step, self.resource, place)
        return place

    def __str__(self) -> str:
        steps, place = [], self
        while place.outer is not None:
            steps.append(str(place.step).replace("~", "~0").replace("/", "~1"))
            place = place.outer
        return one_line("/".join([str(place.step), *reversed(steps)]), _SHOWN)


class References:
    """The resources of a schema, collected with `enter` from the root to the leaves; then references resolve."""

    def __init__(self, schema: Any) -> None:
        self.root = Resource("", schema)
        self._resources = {"": self.root}
        self._dynamic_anchors = Counter[str]()
        dialect = str(schema.get("$schema", "")) if isinstance(schema, Mapping) else ""
        self._identifiers = ("$id",) if _SINCE_DRAFT_6.search(dialect) else ("$id", "id")
        self._ref_hides_identifier = bool(_BEFORE_DRAFT_2019.search(dialect))

    def enter(self, schema: Mapping[str, Any], outer: Resource) -> Resource:
        """Return the resource of a schema that stands in `outer`, and record its identifier and anchors. Raises
        ValueError for an identifier that is not a URI."""
        resource = outer
        for keyword in () if "$ref" in schema and self._ref_hides_identifier else self._identifiers:
            if isinstance(identifier := schema.get(keyword), str):
                uri, anchor = _join(outer.uri, identifier)
                if uri != outer.uri:
                    resource = self._resources.setdefault(uri, Resource(uri, schema))
                if anchor:  # draft 7 and before
                    resource.anchors.setdefault(anchor, schema)
                break
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := schema.get(keyword), str):
                resource.anchors.setdefault(name, schema)
        if isinstance(name := schema.get("$dynamicAnchor"), str):
            self._dynamic_anchors[name] += 1
        if schema.get("$recursiveAnchor") is True:
            self._dynamic_anchors[""] += 1
        return resource

    def is_dynamic(self, keyword: str, reference: str) -> bool:
        """Whether the target of a reference depends on the schemas by which it is reached."""
        if keyword == "$ref":
            return False
        anchor = unquote(reference.partition("#")[2])
        return self._dynamic_anchors[anchor] > 1

    def resolve(self, reference: str, resource: Resource) -> tuple[Any, Resource] | None:
        """Return the value that a reference in `resource` is to, and its own resource; None if it is in another
        document. Raises LookupError if there is no such value, ValueError for a reference that is not a URI."""
        target, fragment = resource, unquote(reference.removeprefix("#"))
        if not reference.startswith("#"):
            uri, fragment = _join(resource.uri, reference)
            if uri not in self._resources:
                return None
            target = self._resources[uri]
        if fragment and not fragment.startswith("/"):
            return target.anchors[fragment], target
        try:
            return _follow(target.schema, fragment), target
        except LookupError:
            # Many schemas of draft 4 have identifiers everywhere, and pointers from the root all the same.
            return _follow(self.root.schema, fragment), self.root


def _join(base: str, reference: str) -> tuple[str, str]:
    """The absolute URI of a reference, and its fragment."""
    if len(reference) > MAX_URI:
        raise ValueError(f"it is longer than {MAX_URI:,} characters")
    uri, fragment = urldefrag(urljoin(base, reference))
    return uri, unquote(fragment)


def _follow(value: Any, pointer: str) -> Any:
    """Return the value at a JSON pointer (RFC 6901). Raises LookupError."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 9:
            value = value[int(name)]
        else:
            raise LookupError(pointer)
    return value
