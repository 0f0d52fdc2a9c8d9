"""JSON schemas of tools and answers in one form for all protocols.

Gemini spells types in capitals, has ``nullable`` and takes a part of the keywords only; OpenAI's strict mode wants
others to be there. What is left is what the model reads of an argument in each of them.
"""

from typing import Any, Final

from otel_wirecap.llm.dialects.interface import Json

_NOT_EVERYWHERE: Final = frozenset({
    "$schema", "$id", "$comment", "$defs", "definitions", "additionalProperties", "strict", "title", "format",
    "propertyOrdering", "property_ordering", "nullable",
})  # fmt: skip
_NAMED: Final = frozenset({"properties", "patternProperties"})
_VALUES: Final = frozenset({"enum", "default", "example", "examples", "const"})
_MAX_DEPTH: Final = 60
_MAX_PARTS: Final = 10_000
"""Parts of a schema that are looked at: references within one another could make any number of one."""


def common_schema(schema: Any) -> Any:
    """A schema without what not all protocols take, references resolved; None where it says nothing."""
    if isinstance(schema, dict) and isinstance(schema.get("json"), dict):
        schema = schema["json"]  # Bedrock
    if not isinstance(schema, dict):
        return schema
    told = _Reading(schema).part(schema, 0)
    return None if told in ({}, {"type": "object"}) else told


class _Reading:
    """The reading of one schema.

    Args:
        root: the schema, in which its references are looked up.
    """

    def __init__(self, root: Json) -> None:
        self._root = root
        self._left = _MAX_PARTS

    def part(self, value: Any, depth: int, within: frozenset[str] = frozenset()) -> Any:
        """A part of the schema, that is within what these references refer to."""
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            return value
        if isinstance(value, list):
            return [self.part(one, depth + 1, within) for one in value]
        if not isinstance(value, dict):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str) and reference not in within:
            within |= {reference}
            value = {**self._referred(reference), **{key: one for key, one in value.items() if key != "$ref"}}
        told: Json = {}
        for key, inner in value.items():
            if key in _NAMED and isinstance(inner, dict):
                told[key] = {name: self.part(one, depth + 1, within) for name, one in inner.items()}
            elif key not in _NOT_EVERYWHERE and (key, inner) != ("default", None):
                told[key] = inner if key in _VALUES else self.part(inner, depth + 1, within)
        return _one_spelling(told, nullable=value.get("nullable") is True)

    def _referred(self, reference: str) -> Json:
        found: Any = self._root
        for step in filter(None, reference.removeprefix("#").split("/")):
            found = found.get(step) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {"$ref": reference}


def _one_spelling(told: Json, *, nullable: bool) -> Json:
    kind = told.get("type")
    if isinstance(kind, list):
        kinds = [one for one in kind if one != "null"]
        nullable = nullable or len(kinds) < len(kind)
        told["type"] = kind = kinds[0] if len(kinds) == 1 else kinds
    if isinstance(kind, str):
        told["type"] = kind.lower()
    elif kind is None and "properties" in told:
        told["type"] = "object"
    for name in ("anyOf", "oneOf"):
        choices = told.get(name)
        if isinstance(choices, list):
            del told[name]
            kept = [one for one in choices if one != {"type": "null"}]
            nullable = nullable or len(kept) < len(choices)
            if len(kept) == 1 and isinstance(kept[0], dict):
                told = kept[0] | told
            else:
                told["anyOf"] = kept
    if "const" in told:
        told["enum"] = [told.pop("const")]
    required = told.get("required")
    if isinstance(required, list):
        told["required"] = sorted(required, key=str)
    for name in ("required", "properties"):
        if name in told and not told[name]:
            del told[name]
    return told | {"nullable": True} if nullable else told
