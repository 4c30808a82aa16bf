"""Measures the shape of a checkout: `python -m benchmarks.house.run [FOLDER ...]`, a column of the table a folder.

Nothing of the checkout is run but `import evertune.cli.run` in a process of its own, which counts what a command loads.
A second folder, such as a worktree of an older revision, is how a table of before and after is made.
"""

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ("evertune", "tasks", "flows")
PRIVATE_WORDS = {"one", "found", "said", "told", "place", "made", "taken", "kept", "begun", "beside", "apart", "wanted"}
WINDOW = 6  # lines that two places must share to count as a duplicate
FENCE = re.compile(r"```.*?```", re.DOTALL)


def parse_files(folder: Path, *tops: str) -> Iterator[ast.Module]:
    """The syntax trees of all Python files under the top-level folders."""
    for top in tops:
        for file in sorted((folder / top).rglob("*.py")):
            yield ast.parse(file.read_text(encoding="utf-8"))


def share_one_word_functions(folder: Path, *tops: str) -> float:
    """Functions and methods whose name is a single word, as a share; `__x__` left out."""
    names = [
        node.name.strip("_")
        for tree in parse_files(folder, *tops)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("__")
    ]
    return sum("_" not in name for name in names) / len(names)


def share_any(folder: Path) -> tuple[float, float]:
    """Annotations of parameters and of returns in which `Any` appears, as shares."""
    parameters: list[bool] = []
    returns: list[bool] = []
    for tree in parse_files(folder, *LIBRARY):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = node.args
                every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                parameters += [_has_any(argument.annotation) for argument in every if argument.annotation]
                if node.returns:
                    returns.append(_has_any(node.returns))
    return sum(parameters) / len(parameters), sum(returns) / len(returns)


def _has_any(annotation: ast.expr) -> bool:
    return re.search(r"\bAny\b", ast.unparse(annotation)) is not None


def share_parallel_assignments(folder: Path) -> float:
    """Assignments that give several names several values at once, as a share."""
    assignments = [
        node for tree in parse_files(folder, *LIBRARY) for node in ast.walk(tree) if isinstance(node, ast.Assign)
    ]
    parallel = [
        node for node in assignments if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
    ]
    return len(parallel) / len(assignments)


def count_private_names(folder: Path) -> Counter[str]:
    """How often a name that only its author can decode is bound in the library."""
    return Counter(
        name
        for tree in parse_files(folder, *LIBRARY)
        for node in ast.walk(tree)
        for name in _bound_names(node)
        if name.strip("_") in PRIVATE_WORDS
    )


def _bound_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.arg):
        return [node.arg]
    return [node.name] if isinstance(node, ast.FunctionDef) else []


def count_format_skips(folder: Path) -> int:
    """Lines on which the formatter is switched off."""
    files = [file for top in (*LIBRARY, "tests", "benchmarks", "docs") for file in (folder / top).rglob("*.py")]
    pattern = re.compile(r"# fmt: (?:skip|off)")
    own = Path(__file__).name
    return sum(
        len(pattern.findall(file.read_text(encoding="utf-8")))
        for file in files
        if file.name != own or "house" not in file.parts
    )


def list_loose_modules(folder: Path) -> list[str]:
    """Modules that lie at the root of the package."""
    return sorted(file.stem for file in (folder / "evertune").glob("*.py") if not file.stem.startswith("__"))


def count_packages_with_logic(folder: Path) -> int:
    """`__init__.py` files that hold more than a docstring, imports and `__all__`."""
    return sum(
        any(
            not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr)) and "__all__" not in ast.unparse(node)
            for node in ast.parse(file.read_text(encoding="utf-8")).body
        )
        for file in (folder / "evertune").rglob("__init__.py")
    )


def count_imported_modules(folder: Path) -> int:
    """Modules of Evertune that `evertune run` has loaded before it does anything."""
    code = "import sys, evertune.cli.run; print(sum(name.split('.')[0] == 'evertune' for name in sys.modules))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder.resolve())!r}); {code}"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout)


def count_duplicates(folder: Path) -> int:
    """Pairs of files that share at least six consecutive lines of code, white space folded."""
    places: dict[tuple[str, ...], set[Path]] = defaultdict(set)
    for top in LIBRARY:
        for file in (folder / top).rglob("*.py"):
            lines = [" ".join(line.split()) for line in file.read_text(encoding="utf-8").splitlines()]
            code = [line for line in lines if len(line) > 3 and not line.startswith(("#", "import ", "from "))]
            for start in range(len(code) - WINDOW + 1):
                places[tuple(code[start : start + WINDOW])].add(file)
    pairs = {tuple(sorted(map(str, files))) for files in places.values() if len(files) > 1}
    return len(pairs)


def measure_prose(files: list[Path]) -> tuple[float, float]:
    """Lines of code per 100 words, and the mean words of a sentence, over Markdown pages."""
    code_lines = words = sentences = 0
    for file in files:
        text = file.read_text(encoding="utf-8")
        code_lines += sum(block.count("\n") - 1 for block in FENCE.findall(text))
        prose = " ".join(
            line
            for line in FENCE.sub("", text).splitlines()
            if line.strip() and not line.lstrip().startswith(("|", "#", "<!--", ":::"))
        )
        words += len(prose.split())
        sentences += len([part for part in re.split(r"(?<=[.!?:])\s", prose) if part.strip()])
    return 100 * code_lines / max(words, 1), words / max(sentences, 1)


def list_guides(folder: Path) -> list[Path]:
    """Tutorials and how-to guides; in a checkout of before there were such folders, all flat guides."""
    docs = folder / "docs"
    new = [*(docs / "tutorial").glob("*.md"), *(docs / "how-to").glob("*.md")]
    return new or [file for file in docs.glob("*.md") if file.name not in ("recipe.md", "benchmarks.md")]


def measure(folder: Path = ROOT) -> dict[str, str]:
    """Every number of a checkout, as text for a table."""
    any_parameters, any_returns = share_any(folder)
    code_share, sentence_length = measure_prose(list_guides(folder))
    names = count_private_names(folder)
    return {
        "one-word function names, library": f"{share_one_word_functions(folder, *LIBRARY):.0%}",
        "one-word function names, tests": f"{share_one_word_functions(folder, 'tests'):.0%}",
        "names that only their author can decode, library": f"{sum(names.values())}",
        "`Any` in parameters": f"{any_parameters:.1%}",
        "`Any` in returns": f"{any_returns:.1%}",
        "parallel assignments": f"{share_parallel_assignments(folder):.1%}",
        "`fmt: skip` and `fmt: off`": f"{count_format_skips(folder)}",
        "modules at the root of the package": f"{len(list_loose_modules(folder))}",
        "`__init__.py` files with logic": f"{count_packages_with_logic(folder)}",
        "modules that `evertune run` loads at import": f"{count_imported_modules(folder)}",
        "pairs of files that share six lines": f"{count_duplicates(folder)}",
        "code lines per 100 words, tutorials and guides": f"{code_share:.1f}",
        "words a sentence, tutorials and guides": f"{sentence_length:.1f}",
        "words in README": f"{len((folder / 'README.md').read_text(encoding='utf-8').split()):,}",
    }


def main(folders: list[str]) -> None:
    """Print the table."""
    columns = {folder: measure(Path(folder)) for folder in folders or ["."]}
    sys.stdout.write("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns) + "\n")
    for name in next(iter(columns.values())):
        sys.stdout.write(f"| {name} | " + " | ".join(numbers[name] for numbers in columns.values()) + " |\n")


if __name__ == "__main__":
    main(sys.argv[1:])
