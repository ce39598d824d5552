"""Modules include only what the table in src/README.md allows."""

import os
import re
import unittest
from graphlib import TopologicalSorter
from pathlib import Path

SOURCE = Path(os.environ.get("DTRAIN_SOURCE", Path(__file__).resolve().parents[2]))
PROGRAMS = "apps"  # may include all modules, and no module includes it
PYTHON = {"report", "export"}


def table_of_modules():
    """{module: modules that it may include}, from the table in src/README.md."""
    rows = re.findall(r"^\| (\w+) \|.*\| ([\w, –]+) \|$", (SOURCE / "src/README.md").read_text(), re.MULTILINE)
    return {module: set(re.findall(r"\w+", allowed)) for module, allowed in rows if (SOURCE / "src" / module).is_dir()}


def modules_linked(module):
    text = (SOURCE / "src" / module / "CMakeLists.txt").read_text()
    found = re.search(r"MODULES([\w\s]+?)(?:PUBLIC|PRIVATE|\))", text)
    return set(found.group(1).split()) if found else set()


def includes_of(module):
    """{included module: a file that includes it}"""
    found = {}
    for folder in (SOURCE / "include" / "dtrain" / module, SOURCE / "src" / module):
        for file in folder.rglob("*.[ch]pp"):
            for name in re.findall(r'^#include "dtrain/(\w+)/', file.read_text(), re.MULTILINE):
                found.setdefault(name, file.relative_to(SOURCE))
    return found


class IncludesTest(unittest.TestCase):
    def setUp(self):
        self.table = table_of_modules()
        self.modules = set(self.table) - {PROGRAMS} - PYTHON

    def test_table_names_every_module(self):
        folders = {folder.name for folder in (SOURCE / "src").iterdir() if folder.is_dir()}
        self.assertEqual(set(self.table), folders)
        self.assertEqual({folder.name for folder in (SOURCE / "include" / "dtrain").iterdir()}, self.modules)

    def test_dependencies_have_no_cycles(self):
        TopologicalSorter({module: self.table[module] for module in self.modules}).prepare()  # throws for a cycle

    def test_includes_match_the_table(self):
        for module in sorted(self.modules):
            with self.subTest(module):
                for included, file in includes_of(module).items():
                    self.assertIn(included, self.table[module] | {module}, f"{file} includes dtrain/{included}/")

    def test_everything_allowed_is_used(self):
        for module in sorted(self.modules):
            with self.subTest(module):
                self.assertEqual(self.table[module] - set(includes_of(module)), set())

    def test_libraries_match_the_table(self):
        for module in sorted(self.modules):
            with self.subTest(module):
                self.assertEqual(modules_linked(module), self.table[module])

    def test_python_imports_match_the_table(self):
        files = {module: {path.stem for path in (SOURCE / "src" / module).glob("*.py")} for module in PYTHON}
        for module in PYTHON:
            imported = set()
            for file in (SOURCE / "src" / module).glob("*.py"):
                names = re.findall(r"^ *(?:import|from) (\w+)", file.read_text(), re.MULTILINE)
                imported |= {other for other in PYTHON - {module} if files[other] & set(names)}
            with self.subTest(module):
                self.assertEqual(imported, self.table[module])
                self.assertFalse(any(files[module] & files[other] for other in PYTHON - {module}), "equal names")

    def test_a_source_includes_its_own_header_first(self):
        """So the header compiles by itself."""
        for header in (SOURCE / "include" / "dtrain").rglob("*.hpp"):
            name = header.relative_to(SOURCE / "include" / "dtrain").with_suffix("")
            source = SOURCE / "src" / name.with_suffix(".cpp")
            if source.exists():
                first = re.search(r"^#include (.*)$", source.read_text(), re.MULTILINE)
                self.assertEqual(first and first.group(1), f'"dtrain/{name}.hpp"', source)

    def test_private_headers_are_included_by_their_module_only(self):
        for file in (SOURCE / "src").rglob("*.[ch]pp"):
            self.assertNotRegex(file.read_text(), r'#include "\.\.', str(file))


if __name__ == "__main__":
    unittest.main()
