"""JSON bodies that cost much more than their length where all of them, or all that is wrong with them, is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def joined(value: bytes, length: int) -> bytes:
    """Elements of an array, all the same.

    Args:
        length: of them all, in bytes.
    """
    return b",".join([value] * (length // (len(value) + 1)))


def events(times: bytes, units: bytes = b"") -> bytes:
    return b'{"end":true,"input":{"kind":"events","steps":20000,"times":[%b],"units":[%b]}}' % (times, units)


def dense(rows: bytes) -> bytes:
    return b'{"end":true,"input":{"kind":"dense","spikes":[%b]}}' % rows


def values(rows: bytes) -> bytes:
    return b'{"end":true,"input":{"kind":"values","values":[%b]}}' % rows


# of about ``length`` bytes each, with what the message says
REFUSED: Mapping[str, tuple[Callable[[int], bytes], str]] = {
    "times are strings": (lambda length: events(joined(b'""', length)), "input.times[0]: send a number"),
    "times are null": (lambda length: events(joined(b"null", length)), "input.times[0]: send a number"),
    "a late string": (
        lambda length: events(joined(b"1", length // 2) + b","  + joined(b'""', length // 2)),
        "input.times[",
    ),
    "a late null": (lambda length: events(b"1," * (length // 2) + b"null"), "input.times["),
    "times are too few": (
        lambda length: b'{"input":{"kind":"events","steps":3,"times":[1,2],"units":[%b]}}' % joined(b"1", length),
        "2 times and ",
    ),
    "bits are strings": (lambda length: dense(b"[%b]" % joined(b'""', length)), "input.spikes[0][0]: send a number"),
    "bits are arrays": (lambda length: dense(b"[%b]" % joined(b"[]", length)), "input.spikes[0][0]: send a number"),
    "bits are objects": (lambda length: dense(b"[%b]" % joined(b"{}", length)), "input.spikes[0][0]: send a number"),
    "bits of a late row": (
        lambda length: dense(b"[%b]," % joined(b"0", 600) * (length // 602) + b"[0,null]"),
        "input.spikes[",
    ),
    "a late string in a row": (
        lambda length: dense(b"[%b]," % joined(b"0", 600) * (length // 1204) + b"[0,%b]" % joined(b'""', length // 2)),
        "input.spikes[",
    ),
    "rows are numbers": (lambda length: dense(joined(b"1", length)), "input.spikes[0]: send an array"),
    "rows are empty": (lambda length: dense(joined(b"[]", length)), "spikes[0] is empty"),
    "rows are objects": (lambda length: dense(joined(b"{}", length)), "input.spikes[0]: send an array"),
    "arrays of arrays": (
        lambda length: dense(joined(b"[" * 100 + b"]" * 100, length)),
        "input.spikes[0][0]: send a number",
    ),
    "values are strings": (lambda length: values(b"[%b]" % joined(b'""', length)), "input.values[0][0]: send a number"),
    "a late string among values": (
        lambda length: values(
            b"[%b]," % joined(b"1.5", 600) * (length // 1204) + b"[0,%b]" % joined(b'""', length // 2)
        ),
        "input.values[",
    ),
    "rows of values are numbers": (lambda length: values(joined(b"1", length)), "input.values[0]: send an array"),
    "rows of values are empty": (lambda length: values(joined(b"[]", length)), "values[0] is empty"),
    "many fields": (
        lambda length: b"{%b}" % b",".join(b'"%07x":0' % i for i in range(length // 12)),
        "0000000 is not a field of this request",
    ),
    "one field many times": (lambda length: b'{%b}' % joined(b'"seq":0', length), "the chunk is empty"),
    "an array many times": (lambda length: b'"times":[' * (length // 9), "send one JSON object"),
    "nested arrays": (lambda length: b'{"input":' + b"[" * length, "recursion limit"),
    "nested objects": (lambda length: b'{"a":' * (length // 5), "recursion limit"),
    "a long key": (lambda length: b'{"%b":1}' % (b"a" * length), "aaa... is not a field"),
    "a long name": (lambda length: b'{"model":"%b"}' % (b"a" * length), "model: send at most 64 characters"),
    "a long name in escapes": (lambda length: b'{"model":"%b"}' % (b"\\u0041" * (length // 6)), "model: send at most"),
    "a long integer": (lambda length: events(b"9" * length, b"0"), "number out of range"),
    "commas": (lambda length: b"," * length, "the body is not JSON"),
    "blanks": (lambda length: b'{"a":%b1}' % (b" " * length), "a is not a field"),
}  # fmt: skip
# for a model of at least 960 channels
DECODED: Mapping[str, Callable[[int], bytes]] = {
    "events": lambda length: events(joined(b"300", length // 2), joined(b"600", length // 2)),
    "short events": lambda length: events(joined(b"3", length // 2), joined(b"7", length // 2)),
    "bits of 0": lambda length: dense(joined(b"[%b]" % joined(b"0", 2 * 960), length)),
    "bits of 1": lambda length: dense(joined(b"[%b]" % joined(b"1", 2 * 960), length)),
    "truth values": lambda length: dense(joined(b"[%b]" % joined(b"true", 5 * 960), length)),
}
