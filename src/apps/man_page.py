"""Writes the man page of a program, made from its --help: man_page.py FILE PROGRAM [NAME-OF-ANOTHER-PROGRAM ...]."""

import os
import re
import subprocess
import sys
from pathlib import Path

SECTIONS = {"positional arguments": "ARGUMENTS", "options": "OPTIONS", "environment": "ENVIRONMENT",
            "exit codes": "EXIT STATUS"}
DOCUMENTS = ("From the folder of this program, ../share/doc/dtrain has the documents; README.md is the first. "
             "../share/dtrain/configs has configs, and README.md there describes all keys.")


def roff(text):
    """`text` for roff, without line breaks. A leading dot would be a command."""
    text = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return r"\&" + text if text.startswith((".", r"\(aq")) else text


def answer(program, option):
    environment = {**os.environ, "COLUMNS": "200", "LC_ALL": "C.UTF-8"}
    # A launcher that builds dtrain on several processes gets an answer from the first one only.
    environment = {name: value for name, value in environment.items()
                   if not name.startswith(("SLURM_", "PMI", "OMPI_COMM_WORLD"))}
    return subprocess.run([program, option], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def paragraphs(text):
    """The blocks between empty lines. The usage may span several lines."""
    return [block for block in re.split(r"\n\s*\n", text.strip("\n")) if block]


def entries(block):
    """(name, description) of every indented entry; lines that are indented further continue the description."""
    found = []
    for line in block.splitlines():
        if entry := re.fullmatch(r"  (\S.*?)(?:  +(\S.*))?", line):
            found.append([entry[1], entry[2] or ""])
        else:
            found[-1][1] += " " + line.strip()
    return found


def tagged(items):
    for name, description in items:
        yield from (".TP", rf"\fB{roff(name)}\fR", roff(description))


def section_of(block):
    """(heading, body) of a block of --help, or None for the heading if it is prose."""
    head, _, rest = block.partition(":")
    if head == "exit codes":
        codes = re.split(r",\s+(?=\d+ )", rest.strip())
        return SECTIONS[head], tagged(code.split(" ", 1) for code in codes)
    if head in SECTIONS:
        return SECTIONS[head], tagged(entries(rest.strip("\n")))
    if block.startswith("  "):
        return "OPTIONS", tagged(entries(block))
    return None, [".PP", roff(block)]


def page(program, others):
    name = Path(program).name
    usage, *blocks = paragraphs(answer(program, "--help"))
    yield rf'.TH "{name.upper()}" 1 "" "{roff(answer(program, "--version"))}" "User Commands"'
    summary = re.split(r"\.\s", blocks[0] + "\n")[0]
    yield from (".SH NAME", rf"{roff(name)} \- {roff(summary[0].lower() + summary[1:])}")
    yield from (".SH SYNOPSIS", roff(usage.removeprefix("usage: ")))
    current = "DESCRIPTION"
    yield f".SH {current}"
    for block in blocks:
        heading, body = section_of(block)
        heading = heading or ("DESCRIPTION" if current == "DESCRIPTION" else "NOTES")
        if heading != current:
            current = heading
            yield f'.SH "{current}"'
        yield from body
    yield from (".SH DOCUMENTS", roff(DOCUMENTS), '.SH "SEE ALSO"')
    yield ", ".join(rf"\fB{roff(other)}\fR(1)" for other in (*others, "mpirun"))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("\n".join([*page(sys.argv[2], sys.argv[3:]), ""]), encoding="utf-8")
