"""Reading a report: its numbers, its references, and the widths of its elements in a browser."""

import html
import html.parser
import pathlib
import re
import tempfile

from browser import Browser

VOID = {"meta", "link", "img", "br", "wbr", "input"}


class Page(html.parser.HTMLParser):
    """The text of each element that has an id, all attributes, and the errors of the page."""

    def __init__(self, text):
        super().__init__()
        self.text, self.by_id, self.attributes, self.tables, self.problems = "", {}, [], {}, []
        self._open = []
        self.feed(text)
        self.problems += [f"<{tag}> is not closed" for tag, _ in self._open]

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        described = attributes.get("aria-label") or attributes.get("alt") or attributes.get("aria-hidden")
        if tag in ("img", "svg") and not described:
            self.problems.append(f"<{tag}> has no alternative text")
        name = attributes.get("id")
        if name:
            self.problems += [f"id {name} appears twice"] if name in self.by_id else []
            self.by_id.setdefault(name, "")
        inside = next((table for _, table in reversed(self._open) if table), None)
        if tag == "table":
            inside = attributes.get("id") or attributes.get("class")
            self.tables[inside] = []
        elif tag == "tr":
            self.tables[inside].append([])
        elif tag in ("td", "th"):
            self.tables[inside][-1].append("")
        if tag not in VOID:
            self._open.append(((tag, name), inside if tag == "table" else None))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if not self._open or self._open[-1][0][0] != tag:
            self.problems.append(f"</{tag}> has no start tag")
        else:
            self._open.pop()

    def handle_data(self, data):
        tags = [tag for (tag, _), _ in self._open]
        if "style" in tags or "script" in tags:
            return
        self.text += data
        for (_, name), _ in self._open:
            if name:
                self.by_id[name] += data
        table = next((table for _, table in reversed(self._open) if table), None)
        if table and ("td" in tags or "th" in tags):
            self.tables[table][-1][-1] += data

    def number(self, name):
        """The number in the element with that id. A percentage is returned as a fraction."""
        found = re.fullmatch(r"\s*([-+\d.,e]+)( %)?\s*", self.by_id[name])
        assert found, f"{name} is {self.by_id[name]!r}"
        return float(found[1].replace(",", "")) / (100 if found[2] else 1)

    def targets(self):
        """The ids to which links of the page lead."""
        return [value[1:] for tag, name, value in self.attributes if (tag, name) == ("a", "href")]

    def external(self):
        """Everything that a browser would load from elsewhere."""
        return [(tag, name, value[:80]) for tag, name, value in self.attributes
                if (name in ("src", "href", "xlink:href", "data", "action", "srcset")
                    and not value.startswith(("data:", "#"))) or "http:" in value or "https:" in value]


# In a page around the report, which is in a frame of each width: Chromium has no windows narrower than 500 pixels. What
# scrolls inside its own box may be wider than the page.
MEASURE = """[...document.querySelectorAll("iframe")].map(frame => {
    const inside = frame.contentDocument, width = inside.documentElement.clientWidth;
    const scrolls = element => element && element !== inside.body &&
        (["auto", "scroll"].includes(inside.defaultView.getComputedStyle(element).overflowX) ||
         scrolls(element.parentElement));
    const wide = [...inside.body.querySelectorAll("*")].filter(element =>
        element.getBoundingClientRect().right > width + 0.5 && !scrolls(element.parentElement));
    return {width, scroll_width: inside.documentElement.scrollWidth,
            wide: wide.map(element => `<${element.tagName.toLowerCase()} class="${element.getAttribute("class")}"> ` +
                                      element.textContent.trim().slice(0, 40))};
})"""


def measure(path, *widths):
    """For windows of these widths in pixels: the width of the page, and the elements that are wider than the page."""
    contents = html.escape(path.read_text(encoding="utf-8"))
    frames = "".join(f'<iframe width="{width}" height="2000" style="border: 0" srcdoc="{contents}"></iframe>'
                     for width in widths)
    with tempfile.TemporaryDirectory(prefix="dtrain-frame-") as folder:
        outer = pathlib.Path(folder) / "frames.html"
        outer.write_text(f'<!DOCTYPE html><meta charset="utf-8"><title></title>{frames}', encoding="utf-8")
        with Browser(outer.as_uri()) as browser:
            found = browser.value(MEASURE)
            assert not browser.messages, browser.messages
    return found
