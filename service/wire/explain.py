"""Turns pydantic's validation errors into sentences for clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pydantic import ValidationError

from service.contract.endpointing import EndpointingChange
from service.errors import InputError, UnsupportedInput
from service.wire.schema import INPUT_KINDS, AudioInput, DenseInput, EventsInput, ValuesInput

LONGEST_PATH = 100
GONE: Mapping[str, str] = {
    "form": "form is not a parameter any more: leave it out; a model has one form, which hetsyn export --form chooses"
}
"""Parameters of earlier versions, and what to do in place of each."""
# by what pydantic adds to the path of a field
_FIELDS: Mapping[int | str, Iterable[str]] = {
    "audio": AudioInput.model_fields,
    "events": EventsInput.model_fields,
    "dense": DenseInput.model_fields,
    "values": ValuesInput.model_fields,
    "settings": EndpointingChange.model_fields,
}
# sentences by pydantic's error type; the error's context fills in the names in braces
_ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "send a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "send a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "send true or false"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "send one JSON object"),
    "list_type": "send an array",
    "string_type": "send a string",
    "literal_error": "send {expected}",
    "greater_than": "send a number above {gt}",
    "greater_than_equal": "send a number of at least {ge}",
    "less_than_equal": "send a number of at most {le}",
    "string_too_short": "send at least {min_length} character(s)",
    "string_too_long": "send at most {max_length} characters",
}


def explain_invalid(
    error: ValidationError,
    subject: str,
    fields: str,
    *,
    names: Iterable[str] = (),
    within: tuple[str, ...] = (),
) -> InputError | UnsupportedInput:
    """Explain the first of some validation errors. The sentence repeats no input values: they may be long.

    Args:
        subject: what was validated, as "the body".
        fields: end of the sentence about an unknown field, after "is not".
        names: of its fields.
        within: path of the validated field.
    """
    listed = [item for item in error.errors(include_url=False) if _kind_of_bit(item["loc"]) != "bool"]
    # an unknown field first: it may be the missing one, misspelt
    chosen, *others = sorted(listed, key=lambda item: item["type"] == "missing")
    location = (*within, *chosen["loc"])
    path = _path(location)
    kind = chosen["type"]
    more = f" ({len(others)} more)" if others else ""
    if kind == "json_invalid":
        return InputError(f"{subject} is not JSON ({chosen['ctx']['error']}): send one JSON object")
    if kind == "union_tag_invalid":
        return UnsupportedInput(f"input.kind is not accepted: send one of {', '.join(INPUT_KINDS)}")
    if kind == "union_tag_not_found":
        given = [str(name) for name in chosen["input"]]
        meant = "".join(f" (is it {name}?)" for name in get_close_matches("kind", given, n=1))
        return InputError(f"input.kind is missing{meant}: send one of {', '.join(INPUT_KINDS)}")
    if kind == "missing":
        return InputError(f"{path} is missing: send it{more}")
    if kind == "extra_forbidden":
        known = names if len(location) == 1 else _FIELDS.get(location[-2], ())
        return unknown_parameter(path, f"{path} is not {fields}{more}", known)
    if path == "session":
        return InputError("session is not an id: send 1 to 128 characters of A-Z a-z 0-9 . _ ~ : -")
    advice = _ADVICE.get(kind, f"{chosen['msg']}: send what /docs describes").format_map(chosen.get("ctx", {}))
    return InputError(f"{path or subject}: {advice}{more}")


def unknown_parameter(name: str, sentence: str, known: Iterable[str]) -> InputError:
    """Make the error for an unknown parameter. A removed one has its own text; others get ``sentence``.

    Args:
        known: names, of which one may have been meant.
    """
    last = name[:LONGEST_PATH].rpartition(".")[2]
    meant = "".join(f"; did you mean {close}?" for close in get_close_matches(last, known, n=1))
    return InputError(GONE.get(name, sentence + meant))


def _kind_of_bit(location: tuple[int | str, ...]) -> int | str:
    """Return the kind as which pydantic refused a value of a dense row: it refuses each as ``float`` and ``bool``."""
    return location[-1] if len(location) > 1 and isinstance(location[-2], int) else ""


def _path(location: tuple[int | str, ...]) -> str:
    """Write a field as ``input.times[3]``: without the kind that pydantic adds after ``input`` or ``endpointing``."""
    parts = list(location)
    if len(parts) > 1 and parts[0] == "input" and parts[1] in INPUT_KINDS:
        del parts[1]
    if len(parts) > 1 and parts[0] == "endpointing":
        del parts[1]
    if _kind_of_bit(location) == "float":
        del parts[-1]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text if len(text) <= LONGEST_PATH else f"{text[:LONGEST_PATH]}..."
