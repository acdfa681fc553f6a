"""References that a reader follows: sections of docs/azure-http.md, import circles, paths of one machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "maas_client"
SECTION = re.compile(
    r"docs/azure-http\.md[,\s]+sections?\s+(\d+(?:\.\d+)?(?:(?:,? and |, |-| to )\d+(?:\.\d+)?)*)"
)


def sources() -> list[Path]:
    folders = (PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "examples")
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def test_cited_sections_of_the_http_page_exist() -> None:
    page = (ROOT / "docs" / "azure-http.md").read_text("utf-8")
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)?)", page, re.M))
    cited = {
        (path.name, number)
        for path in sources()
        for reference in SECTION.findall(re.sub(r"\s*\n\s*(?:# )?", " ", path.read_text("utf-8")))
        for number in re.findall(r"\d+(?:\.\d+)?", reference)
    }
    assert len(cited) > 20
    assert not {(name, number) for name, number in cited if number not in headings}


def test_pages_that_code_names_exist() -> None:
    pages = {
        (path.name, page)
        for folder in (PACKAGE, ROOT / "tests", ROOT / "examples")
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".json", ".md") and "node_modules" not in path.parts
        for page in re.findall(r"(?<![\w/-])docs/[\w/-]+\.md", path.read_text("utf-8"))
    }
    assert len(pages) > 20
    assert not {(name, page) for name, page in pages if not (ROOT / page).exists()}


def test_no_path_of_one_machine_is_named() -> None:
    pattern = re.compile(r"""["'](?:/work/|/home/|/Users/|/root/)""")
    assert not [
        p for p in sources() if p != Path(__file__) and pattern.search(p.read_text("utf-8"))
    ]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_at_load(tree: ast.Module) -> set[str]:
    """Return the dotted names a module imports when it is loaded, without type-checking-only imports."""
    names: set[str] = set()
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending.extend(node.orelse)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            pending.extend(node.body)
            pending.extend(getattr(node, "orelse", []))
    return names


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    graph = {
        name: {
            imported
            for imported in imports_at_load(ast.parse(path.read_text("utf-8")))
            if imported in modules and imported != name
        }
        for name, path in modules.items()
    }
    # `from package import module` loads the module; the package's own __init__ is loaded before both.
    for name, targets in graph.items():
        for target in list(targets):
            if name.startswith(f"{target}."):
                targets.discard(target)
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph[name]):
            circle = visit(target, [*trail, name])
            if circle:
                return circle
        done.add(name)
        return []

    for name in graph:
        assert not (circle := visit(name, [])), " -> ".join(circle)
