"""What mkdocs does besides reading `docs/`: pages made from the README and the code, and lessons with what they print and draw."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.site import lessons, reference

_ROOT = Path(__file__).parents[2]
_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Files of the top folder that are pages too, so that nothing is said twice."""
_FILES = ("LICENSE", "CITATION.cff")
_CODE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:abm|analysis|configs|experiments/papers|tests)/[^)]*\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what does not lie in `docs/`."""
    for source, page in _PAGES.items():
        files.append(File.generated(config, page, content=_moved((_ROOT / source).read_text("utf-8"), page)))
    for name in _FILES:
        files.append(File.generated(config, f"project/{name}.txt", content=(_ROOT / name).read_text("utf-8")))
    for page, text in reference.pages().items():
        files.append(File.generated(config, page, content=text))
    for name in lessons.lessons():
        text, pictures = lessons.page(name)
        files.remove(files.src_uris[f"lessons/{name}.md"])
        files.append(File.generated(config, f"lessons/{name}.md", content=text))
        for picture, content in pictures.items():
            files.append(File.generated(config, f"lessons/{picture}", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leave of a link to the code its text: the pages go without the code."""
    return _CODE.sub(r"`\1`", markdown)


def _moved(text: str, page: str) -> str:
    """Links of a file of the top folder as they are from its page."""
    up = "../" * page.count("/")
    for source, target in _PAGES.items():
        text = re.sub(rf"\]\({re.escape(source)}(#[^)]*)?\)", rf"]({up}{target}\1)", text)
    for name in _FILES:
        text = text.replace(f"]({name})", f"]({up}project/{name}.txt)")
    return re.sub(r'(\]\(|src(?:set)?=")docs/', rf"\1{up}", text)
