"""The table of contents of the page."""

import dataclasses
import html
import re

from markupsafe import Markup

HEADING = re.compile(r"<(h[23])(?: id=\"([^\"]+)\")?>(.*?)</\1>", re.DOTALL)
LEAST_ENTRIES = 3  # a page with fewer is short


@dataclasses.dataclass
class Contents:
    body: Markup  # with an id in each heading
    entries: list  # of dicts


def with_contents(body):
    """Gives the headings of `body` ids if they have none, and collects them for the table of contents."""
    entries, used = [], set()

    def entry(found):
        level, name, text = found.groups()
        words = " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())
        name = name or "section-" + (re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "unnamed")
        while name in used:
            name += "-again"
        used.add(name)
        entries.append({"id": name, "text": words, "is_main": level == "h2"})
        return f'<{level} id="{name}">{text}</{level}>'

    body = Markup(HEADING.sub(entry, str(body)))
    return Contents(body, entries if len(entries) >= LEAST_ENTRIES else [])
