"""Sphinx configuration: `make docs`."""

import logging
import warnings
from pathlib import Path

import crossfit

project = "crossfit"
author = "The crossfit developers"
copyright = "2026, The crossfit developers"
release = version = crossfit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "results"]
templates_path = ["_templates"]

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": r"/plot_",
    "doc_module": ("crossfit",),
    "reference_url": {"crossfit": None},
    "download_all_examples": False,
    "show_memory": False,
    "abort_on_example_error": True,
}

html_theme = "furo"
html_title = "crossfit"
html_static_path = ["_static"]
html_css_files = ["phone.css"]


def without_path(message, category, *place):
    """Format a warning that an example gives without the path of this machine's files."""
    return f"{category.__name__}: {message}\n"


warnings.formatwarning = without_path


def not_ours(app, what, name, obj, skip, options):
    """Skip what a class inherits from str: a direction is one."""
    return True if getattr(str, name, None) == obj else None


def build_board(app, error):
    """Build the leaderboards of the shipped experiments with the pages."""
    if error is None and app.builder.format == "html":
        from crossfit.report import write_board

        logging.getLogger("matplotlib").setLevel(logging.WARNING)
        title = "Experiments that are shipped with crossfit"
        write_board([Path(app.srcdir) / "results"], Path(app.outdir) / "board", title=title)


def setup(app):
    app.connect("build-finished", build_board)
    app.connect("autodoc-skip-member", not_ours)
