"""The frame of the page, and how it looks: on a wide screen and on a phone, by day and by night."""

from __future__ import annotations

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>@title</title>
<style>
:root { --ink: #1f2430; --muted: #5b6472; --paper: #fff; --line: #dfe3e8; --box: #f4f6f8;
        --c0: #2f6fb0; --c1: #c46a10; --c2: #2d7d4c; --c3: #b83232; --c4: #7048ae }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --muted: #a3adba; --paper: #14171c; --line: #333a44; --box: #1d222a;
          --c0: #6aa9e9; --c1: #f0a04b; --c2: #62c088; --c3: #f07878; --c4: #b696f0 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1060px;
       margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; line-height: 1.3; margin-bottom: .3rem }
h2 { font-size: 1.15rem; margin-top: 2rem }
.lead, .note, small { color: var(--muted) }
.lead { margin-top: 0 }
.note { font-size: .85rem; margin: .2rem 0 }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid var(--line); font-weight: normal }
th { color: var(--muted) }
th:first-child, td:first-child, .facts th, .facts td { text-align: left }
.facts th { vertical-align: top; white-space: nowrap }
.facts td { overflow-wrap: anywhere }
.wide { overflow-x: auto }
.wide th, .wide td { white-space: nowrap }
.boxes { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; list-style: none; padding: 0 }
.box { background: var(--box); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem;
       display: flex; flex-direction: column; max-width: 15rem }
.arrow { color: var(--muted) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1.2rem }
figure { margin: 0 }
figcaption { font-weight: 600; margin-bottom: .2rem }
svg { width: 100%; height: auto; font-size: 11px }
svg text { fill: var(--muted) }
.grid { stroke: var(--line); fill: none }
.line { stroke-width: 1.8; fill: none }
.mark { stroke-width: 1.4; stroke-dasharray: 4 3; fill: none }
.bar { fill-opacity: .55 }
@colours
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em }
.confusion th, .confusion td { padding: .2rem .4rem; text-align: center; min-width: 1.6rem }
.confusion td { background: color-mix(in srgb, var(--c0) calc(var(--share) * .6), transparent) }
.confusion th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper) }
@media (max-width: 500px) {
  body { margin: 1rem auto }
  h1 { font-size: 1.2rem }
  th, td { padding: .2rem .4rem }
  svg { font-size: 14px }
  .boxes { flex-direction: column; align-items: stretch }
  .box { max-width: none }
  .arrow { text-align: center; transform: rotate(90deg) }
}
@media print { section { break-inside: avoid } }
</style>
@body
</html>
"""
_COLOURS = "\n".join(
    f".line.c{k}, .mark.c{k} {{ stroke: var(--c{k}) }} .bar.c{k} {{ fill: var(--c{k}) }} "
    f".key.c{k} {{ background: var(--c{k}) }}"
    for k in range(5)
)


def page(title: str, body: str) -> str:
    """A page.

    Args:
        title: as HTML.
        body: as HTML.
    """
    return _PAGE.replace("@colours", _COLOURS).replace("@title", title).replace("@body", body)
