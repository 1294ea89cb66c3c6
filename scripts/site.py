"""What mkdocs.yml's site has beyond docs/: hooks that mkdocs calls. `python -m mkdocs build` finds this by its path."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from app.tasks.registry import TASKS
from scripts import api_reference

REPOSITORY = Path(__file__).resolve().parent.parent
ROOT_PAGES = {"README.md": "index.md", "SECURITY.md": "security-policy.md", "CHANGELOG.md": "changelog.md"}
"""Files beside docs/ that are pages of the site -> their names there."""
_ITEM = re.compile(r"([-*]|\d+\.) ")
_EXAMPLE = re.compile(r"^\[`(examples/[\w.]+)`\]\([./]+/\1\)$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A page of each task behind the index of them, by modality."""
    by_modality: dict[str, list[dict[str, str]]] = {}
    for task in TASKS.values():
        by_modality.setdefault(task.modality.capitalize(), []).append({task.name: f"tasks/{task.name}.md"})
    for section in config.nav or []:
        if "Tasks" in section:
            section["Tasks"].extend({modality: pages} for modality, pages in by_modality.items())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, name in ROOT_PAGES.items():
        text = from_root(REPOSITORY.joinpath(source).read_text())
        files.append(File.generated(config, name, content=text))
    api = api_reference.document()
    files.append(File.generated(config, "openapi.md", content=api_reference.page(api)))
    files.append(File.generated(config, "openapi.json", content=json.dumps(api, ensure_ascii=False)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links from docs/ to files beside it: to their pages; an example's that is a paragraph of its own: what stands in
    the file; to other files of the repository, which the site has not, only their text."""
    depth = page.file.src_uri.count("/") + 1

    def beside_docs(found: re.Match[str]) -> str:
        mark, text, target, anchor = found.groups()
        if not target.startswith("../" * depth):
            return found[0]
        name = ROOT_PAGES.get(target.removeprefix("../" * depth))
        return text if name is None else f"{mark}[{text}]({'../' * (depth - 1)}{name}{anchor or ''})"

    return as_python_markdown(_LINK.sub(beside_docs, _EXAMPLE.sub(_shown, markdown)))


def _shown(example: re.Match[str]) -> str:
    path = REPOSITORY / example[1]
    language = {".py": "python", ".mjs": "javascript"}[path.suffix]
    return f'```{language} title="{example[1]}"\n{path.read_text()}```'


def as_python_markdown(markdown: str) -> str:
    """What GitHub reads and Python-Markdown does not: a list without an empty line before it, and what belongs to an
    item being indented by two spaces."""
    lines: list[str] = []
    is_code = is_list = has_paragraphs = False
    for line in markdown.splitlines():
        before = lines[-1] if lines else ""
        is_item = not is_code and _ITEM.match(line) is not None
        if is_item and before.strip() and (has_paragraphs or not is_list):
            lines.append("")
        if is_item:
            is_list, has_paragraphs = True, False
        elif not is_code and line.strip() and not line.startswith("  "):
            is_list = is_list and bool(before.strip())  # a line that goes on with the item's paragraph
        elif is_list and not line.strip():
            has_paragraphs = True
        if line.lstrip().startswith("```"):
            is_code = not is_code
        lines.append("  " + line if is_list and line.startswith("  ") else line)
    return "\n".join(lines) + "\n"


def from_root(text: str) -> str:
    """A page of the repository's root, with links as from docs/."""

    def inside_docs(found: re.Match[str]) -> str:
        mark, text, target, anchor = found.groups()
        if ":" in target:
            return found[0]
        if target == "docs/adr":
            target = "docs/adr/README.md"
        if target.startswith("docs/"):
            return f"{mark}[{text}]({target.removeprefix('docs/')}{anchor or ''})"
        return f"{mark}[{text}]({ROOT_PAGES[target]}{anchor or ''})" if target in ROOT_PAGES else text

    return _LINK.sub(inside_docs, text)
