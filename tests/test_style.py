"""The words of the project: docstrings, comments, messages and pages follow the style sheet."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# First words of docstrings, each with what usually replaces it.
OPENERS = {
    "Answer": "Return",
    "Ask": "Suggest, Query, Return",
    "Bring": "Convert",
    "Do": "Compute, Run",
    "Does": "Compute, Test, Compare",
    "Forget": "Clear",
    "Give": "Return, Assign",
    "Hand": "Pass, Return",
    "Have": "Reserve, Make",
    "Hear": "Receive, Handle",
    "How": "Return, Measure",
    "Know": "Return, Store",
    "Let": "Allow, Make",
    "Refuse": "Raise, Check, Reject",
    "Refuses": "Raise, Check, Reject",
    "Say": "Return, Describe, Report",
    "Says": "Return, Describe, Report",
    "Take": "Restore, Use",
    "Tell": "Report",
    "Tells": "Report",
    "What": "Return, Describe, or a noun",
    "Where": "Return the place, or a noun",
    "Whether": "Return True if",
}

_RATED = (
    "row|second|minute|hour|query|image|picture|item|pair|epoch|batch|class|view|word|caption|cell"
    "|seed|direction"
)
_COUNTED = (
    r"one|two|three|four|five|ten|several|once|twice|\d+|number|line|row|megabytes|bytes|seconds"
    "|pairs|images|pictures|items|rows|queries|times|calls|numbers|values"
)
_THINGS = (
    "file|message|error|card|method|registry|plan|cell|store|page|bundle|manifest|estimator|class"
)
_STORES = "study|extractor|store|run|method|estimator|bundle|search|scorer|plugin"
# What people may do and things may not.
_PEOPLE = ("who", "people", "person", "user", "author", "caller", "one", "body", "paper")
_NOT_PEOPLE = "".join(rf"(?<!{word})" for word in _PEOPLE)

# Phrases that stop a native reader, each with what to write instead.
PHRASES = {
    "(?<!there )\\b(?:is|are|was|were) no (?!longer|more than|less than|better|worse)": "is not a",
    rf"\b(?:{_COUNTED}) an? (?:{_RATED})\b": "per",
    r"\bat a call\b": "per call",
    r"\bto be had\b": "available, obtain",
    r"\bfor want of\b": "because there is no",
    r"\bdear(?:er|est)?\b": "expensive",
    r"\bkin\b": "related",
    r"\banew\b": "again",
    r"\bhand(?:s|ed)? (?:back|over|out)\b": "return, pass",
    r"\b(?:is|are|was) told\b": "is reported",
    r"\bcannot have\b": "is invalid",
    r"\b(?:hear|hears|heard)\b": "receive, is called with",
    rf"{_NOT_PEOPLE} (?:says|asks|knows|wants|tells|refuses)\b": "states, requires, has, raises",
    rf"\b(?:{_THINGS})s? (?:must |may |can |cannot |could |should |does |do )?(?:not )?"
    r"(?:say|tell|ask|know|want|refuse)\b": "state, report, require, have, reject",
    r"\bnothing (?:is )?said\b": "nothing is reported",
    r"\b(?:must|could|can) be said\b": "must be reported",
    r"\bbeside\b": "next to, with",
    r"\bnobody's\b|\bwhoever\b|\bwho waits\b": "name the subject",
    r"\bout of its place\b|\btorn apart\b": "invalid, divided",
    r"\b(?:is|are|was|were) held to\b": "is checked against",
    r"\b(?:is|are|was|were) looked at\b": "is evaluated, is used",
    r"\b(?:is|are|was|were) in work\b": "is being computed",
    r"\bgo(?:es)? on (?:where|from|when|to the same)\b|\bwhere it was\b": "continues",
    r"\bgives? back\b|\bgiven up\b": "return, release, stop",
    r"\bstands? last\b": "is the last step",
    r"\bunequally many\b": "different numbers of",
    r"\bcounts? for (?:as much|more|less|much)\b": "matters",
    rf"\b(?:{_STORES})s? (?:remember|bring)s?\b": "stores, has",
    r"\b(?:any|every(?: other)?|all|the) \w+ of Optuna's\b": "an Optuna sampler, and so on",
    r"\bsigns? of life\b": "heartbeat",
    r"\bhangs? on\b": "depends on",
    r"\bone and the same\b|\bnothing but\b": "the same, only",
    r"\bare made so\b|\bso spelt\b": "in this way",
}

_BANNED = [(re.compile(pattern, re.IGNORECASE), advice) for pattern, advice in PHRASES.items()]
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _python_texts(source: str, *, literals: bool = True) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, text, whether it is a docstring) for docstrings, comments and sentences.

    The string literals of tests are data, and are left out by ``literals=False``.
    """
    tree = ast.parse(source)
    docstrings: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            value = node.body[0].value  # type: ignore[attr-defined]
            docstrings.add(value)
            yield value.lineno, value.value, True
    formatted = (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr))
    elsewhere = docstrings.union(*(node.values for node in formatted))
    for node in ast.walk(tree) if literals else ():
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield node.lineno, "".join(map(str, parts)), False
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node not in elsewhere
            and " " in node.value.strip()
        ):
            yield node.lineno, node.value, False
    # Comments that follow each other are one text, since sentences run over several lines.
    comments: list[str] = []
    start = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if comments and token.start[0] == last + 1:
                comments.append(token.string.lstrip("# "))
            else:
                if comments:
                    yield start, "\n".join(comments), False
                comments, start = [token.string.lstrip("# ")], token.start[0]
            last = token.start[0]
    if comments:
        yield start, "\n".join(comments), False


def _markdown_texts(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield the paragraphs of a page with their lines, without code."""
    in_code = False
    paragraph: list[str] = []
    start = 1
    for number, line in enumerate([*source.splitlines(), ""], 1):
        if line.lstrip().startswith(("```", ":::")):
            in_code = line.lstrip().startswith("```") and not in_code
            line = ""
        if line.strip() and not in_code:
            start = start if paragraph else number
            paragraph.append(re.sub(r"`[^`]*`", "X", line))
        elif paragraph:
            yield start, "\n".join(paragraph), False
            paragraph = []


def _faults(source: str, kind: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, phrase, advice) for faults in a page, a module or a test module."""
    if kind == ".md":
        texts = _markdown_texts(source)
    else:
        texts = _python_texts(source, literals=kind != "test")
    for line, text, is_docstring in texts:
        opener = re.match(r"\s*(\w+)", text)
        if is_docstring and opener and opener[1] in OPENERS:
            yield line, f"{opener[1]} …", f"start with {OPENERS[opener[1]]}"
        # A line break inside a phrase counts as one space.
        lines = re.sub(r"\n[ ]*", "\n", text)
        for pattern, advice in _BANNED:
            for found in pattern.finditer(lines.replace("\n", " ")):
                at = line + lines.count("\n", 0, found.start())
                yield at, found[0].strip(), advice


def _files() -> list[Path]:
    patterns = (
        "*.md",
        "docs/*.md",
        "docs/*/*.md",
        "docs/**/*.py",
        "examples/**/*.py",
        "benchmarks/*.py",
        "plugins/*/*.md",
        "plugins/*/src/**/*.py",
        "plugins/*/experiments/*.py",
        "plugins/*/tests/*.py",
        "src/**/*.py",
        "tests/**/*.py",
    )
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(
        path
        for path in found
        if path.name != "CHANGELOG.md"
        and path != Path(__file__)  # it quotes the phrases
        and "_build" not in path.parts
        and not path.is_relative_to(ROOT / "docs" / "examples")  # the gallery, when it is built
    )


def test_plain_english():
    faults = []
    for path in _files():
        kind = "test" if "tests" in path.relative_to(ROOT).parts else path.suffix
        for line, phrase, advice in _faults(path.read_text(encoding="utf-8"), kind):
            faults.append(f"{path.relative_to(ROOT)}:{line}: {phrase} → {advice}")
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("source", "kind", "expected"),
    [
        ('"""Say how many there are."""', ".py", [(1, "Say …")]),
        ('"""Return what\n    there is. This is no\n    array."""', ".py", [(2, "is no")]),
        ("# There is no array.\nx = 1\n", ".py", []),
        ("x = 1\n# This\n# file\n# says so.\n", ".py", [(3, "says")]),
        ("raise ValueError(f'{name} is no array')", ".py", [(1, "is no")]),
        ("raise ValueError(f'{name} is no longer an array')", ".py", []),
        ("Those who want one number a row\n\n```\nx is no y\n```\n", ".md", [(1, "number a row")]),
        ("One person knows, the user wants, the paper says.\n", ".md", []),
        ("One at a time, of a row.\n", ".md", []),
        ("x = 'it says so'\n# It says so.\n", "test", [(2, "says")]),
        ("A killed run\ngoes on where it was.\n", ".md", [(2, "goes on where")]),
    ],
)
def test_faults_are_found_with_their_lines(source, kind, expected):
    assert [fault[:2] for fault in _faults(source, kind)] == expected
