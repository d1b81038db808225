"""Pieces of pages that stand there dozens of times or never change, written once instead of by the template engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from flask import current_app
from flask_babel import gettext
from markupsafe import Markup, escape

from . import words

#: Fragments that an app keeps; each is a few kB.
MOST_KEPT = 512


@lru_cache(maxsize=1_024)
def icon(address: str, name: str, style: str = "") -> Markup:
    """An icon of the sheet at ``address``."""
    return Markup('<svg class="ic {}" aria-hidden="true"><use href="{}#{}"/></svg>').format(style, address, name)


def hash_of(address: str, value: str | None, href: str | None = None, full: bool = False) -> Markup:
    """A hash or address with a button that copies it; ``address`` is that of the sheet of icons."""
    if not value:
        return Markup("–")
    whole, brief, label = escape(value), escape(words.short(value)), escape(gettext("Copy"))
    shown = whole if full else brief
    opened, closed = (f'<a class="mono" href="{escape(href)}"', "</a>") if href else ('<span class="mono"', "</span>")
    return Markup(
        f'<span class="hash{" full" if full else ""}">{opened} title="{whole}">{shown}{closed}'
        f'<button type="button" class="copy" data-copy="{whole}" aria-label="{label} {brief}" title="{label}">'
        f"{icon(address, 'copy')}</button></span>"
    )


def kept(*key: Hashable, caller: Callable[[], Any]) -> Markup:
    """What the block between ``{% call kept(…) %}`` and ``{% endcall %}`` gave for this key before.

    The key must name everything that the block depends on, the language first of all.
    """
    known: dict[Hashable, Markup] = current_app.extensions.setdefault("fragments", {})
    found = known.get(key)
    if found is None:
        if len(known) >= MOST_KEPT:
            known.clear()
        found = known[key] = Markup(caller())
    return found
