"""No private name of one package is used in another."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for folder in (ROOT / "src", *ROOT.glob("plugins/*/src"))
    for path in folder.rglob("*.py")
    if "template" not in str(path)
)


def imports(path):
    """Yield module and name of what a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def package_of(path):
    parts = path.parts[path.parts.index("src") + 1 :]
    return ".".join(parts[:-1])


def test_private_names_stay_in_their_module_or_package():
    assert len(SOURCES) > 100
    crossing = []
    for path in SOURCES:
        package = package_of(path)
        for module, name in imports(path):
            if not module.startswith("crossfit"):
                continue
            home = module.rpartition(".")[0] or module
            private_module = any(part.startswith("_") for part in module.split("."))
            # A private module may be used in its own package and subpackages: `crossfit._arguments`
            # in all of crossfit.
            inside = f"{package}.".startswith(f"{home}.")
            foreign = name.startswith("_") and package not in (home, module)
            if foreign or (private_module and not inside):
                crossing.append(f"{path.relative_to(ROOT)}: {module}.{name}")
    assert not crossing
