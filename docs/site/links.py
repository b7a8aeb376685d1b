"""A hook of mkdocs: pages that lie outside of `docs/`, and links that work in the repository and in the site.

README, settings, contributing and changes are pages of their own. What pages link to outside of `docs/` comes along:
a Markdown file as a page, a program or a configuration as a page that shows it, a picture or a table as it is.
"""

import posixpath
import re
from functools import partial
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

REPOSITORY = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "config/README.md": "settings.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
ALONG = "repository"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".toml": "toml", ".smk": "python"}
FENCE = r"^```.*?^```$"
CODE = rf"{FENCE}|`[^`\n]+`"
LINK = re.compile(rf"{CODE}|\]\((?P<path>[^()\s#:]+)(?P<anchor>#[^()\s]*)?\)", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^```(\w+) file=(\S+)$", re.MULTILINE)
COMMENT = re.compile(rf"{CODE}|<!--.*?-->\n?", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)

origins: dict[str, str] = {}
"""Of each page of the site the file of the repository that it is made from."""


def page_of(path: str) -> str:
    """Where the site has a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{ALONG}/{path}" + (".md" if Path(path).suffix in LANGUAGES else "")


def linked(text: str, path: str) -> list[str]:
    """The files of the repository that a page links to; the page is the file `path` of it."""
    found = [match["path"] for match in LINK.finditer(text) if match["path"]]
    return [posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) for name in found]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside of `docs/`, and whatever is linked to from any page."""
    origins.clear()
    origins.update({file.src_uri: f"docs/{file.src_uri}" for file in files.documentation_pages()})
    waiting = [*PAGES, *origins.values()]
    for path in waiting:  # grows as it goes
        source, uri = REPOSITORY / path, page_of(path)
        if not source.is_file():
            continue  # the strict build says which link is wrong
        if files.get_file_from_path(uri) is None:
            level = InclusionLevel.INCLUDED if path in PAGES else InclusionLevel.NOT_IN_NAV
            shown = {"content": as_page(path)} if source.suffix in LANGUAGES else {"abs_src_path": str(source)}
            files.append(File.generated(config, uri, inclusion=level, **shown))
            origins[uri] = path
        if source.suffix == ".md":
            waiting += [other for other in linked(source.read_text(), path) if other not in waiting]
    return files


def as_page(path: str) -> str:
    """A program or a configuration as a page."""
    text = (REPOSITORY / path).read_text()
    return f"---\nsearch: {{exclude: true}}\n---\n# `{path}`\n\n````{LANGUAGES[Path(path).suffix]}\n{text}\n````\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with its links as the site has them, and what GitHub's Markdown has and Python's has not."""
    uri = page.file.src_uri
    path = origins[uri]
    if Path(path).suffix in LANGUAGES:
        return markdown
    text = COMMENT.sub(lambda found: "" if found[0].startswith("<!--") else found[0], markdown)
    text = LINK.sub(partial(_as_in_the_site, path=path, uri=uri), text)
    text = FILE.sub(r'```\1 title="\2"', text)
    # Within code a bar splits no cell here, and a backslash before it would be shown.
    return ROW.sub(lambda row: re.sub(r"`[^`\n]+`", lambda code: code[0].replace(r"\|", "|"), row[0]), text)


def _as_in_the_site(found: re.Match[str], *, path: str, uri: str) -> str:
    if not found["path"]:
        return found[0]
    target = page_of(posixpath.normpath(posixpath.join(posixpath.dirname(path), found["path"])))
    return f"]({posixpath.relpath(target, posixpath.dirname(uri) or '.')}{found['anchor'] or ''})"
