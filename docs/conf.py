"""How Sphinx builds the documentation: `make docs`, result in ``docs/_build/html``.

The pages are the Markdown files of this folder; the API reference comes out of the docstrings.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the code beside these pages, whatever else is installed

from rb import __version__  # noqa: E402

project = "rb"
copyright = "the authors of rb"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinxarg.ext",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
# Types in docstrings are words ("path", "array") as often as names, and `n` names several things.
nitpicky = False
suppress_warnings = ["ref.python"]

# Markdown: links to headings of other pages work as they do on a forge.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# API: single backticks are code, and a link where they name something that is documented.
default_role = "py:obj"
autosummary_generate = True
autosummary_ignore_module_all = True
autodoc_default_options = {"members": True, "ignore-module-all": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes of a dataclass would otherwise be listed twice

html_theme = "pydata_sphinx_theme"
html_title = f"rb {release}"
html_sidebars = {page: [] for page in ("index", "start", "tutorial", "paper")}  # no section
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
