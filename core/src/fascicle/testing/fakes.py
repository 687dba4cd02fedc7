"""Throw-away plugins: a module, its option files and the metadata that makes Python believe it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

__all__ = ["PLUGIN_CODE", "write_plugin"]

PLUGIN_CODE = '''
"""A throw-away plugin."""
from fascicle import PluginInfo, hookimpl

@hookimpl
def fascicle_plugin_info():
    return PluginInfo(name="{name}", title="A plugin for tests", options={options})

@hookimpl
def fascicle_config_packages():
    return ["{module}.conf"]
'''


def write_plugin(
    folder: Path,
    name: str,
    *,
    code: str | None = None,
    more: str = "",
    options: Mapping[str, str] | None = None,
    schemas: str = "",
    conf: Mapping[str, str] | None = None,
    version: str = "0.1.0",
    dist: str | None = None,
    module: str | None = None,
    entry_point: str | None = None,
) -> Path:
    """Write the plugin `name` into `folder` (put it on `sys.path`) and give the folder of its module.

    Args:
        folder: becomes a site folder: modules and `.dist-info`.
        name: the plugin's name.
        code: text of `plugin.py`; by default one that returns its information and config package.
        more: text added to that, further hooks for example.
        options: `"group/kind"` to the dataclass's name in `options.py`.
        schemas: text of `options.py`.
        conf: option files: `"training/toy.yaml"` to text.
        version: of the distribution.
        dist: distribution, `fascicle-NAME` by default.
        module: top-level module, `fascicle_NAME` by default.
        entry_point: its value, `MODULE.plugin` by default.
    """
    module = module or f"fascicle_{name}"
    dist = dist or f"fascicle-{name}"
    home = folder / module
    targets = {key: f"{module}.options:{cls}" for key, cls in (options or {}).items()}
    text = PLUGIN_CODE.format(name=name, module=module, options=repr(targets)) if code is None else dedent(code)
    files = {
        "__init__.py": "",
        "py.typed": "",
        "plugin.py": text + dedent(more),
        "options.py": dedent(schemas),
        "conf/__init__.py": "",
        **{f"conf/{path}": dedent(text) for path, text in (conf or {}).items()},
    }
    for path, content in files.items():
        file = home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    info = folder / f"{dist.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n", encoding="utf-8")
    (info / "RECORD").write_text("", encoding="utf-8")
    value = entry_point or f"{module}.plugin"
    (info / "entry_points.txt").write_text(f"[fascicle.plugins]\n{name} = {value}\n", encoding="utf-8")
    return home
