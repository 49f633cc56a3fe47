"""Which file `--config` names: a file, or a config that is shipped with the package."""

from pathlib import Path

from mtl_jax.errors import UserError, suggest

TEMPLATE = "own_data"
_PACKAGE = Path(__file__).parents[1]


def shipped_folder() -> Path:
    """Return the folder of the shipped configs: in the package, or beside it in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_config(name: str) -> Path:
    """Return the config file `name`, or the shipped config NAME if there is no such file.

    A shipped config is named NAME, NAME.py or configs/NAME.py. Raises UserError if there is none.
    """
    path = Path(name)
    if path.is_file() and path.suffix == ".py":
        return path
    shipped = {file.stem: file for file in sorted(shipped_folder().glob("*.py"))}
    if path.stem in shipped and name in (path.stem, f"{path.stem}.py", f"configs/{path.stem}.py"):
        return shipped[path.stem]
    folders = {path.parent, Path("configs")}
    files = sorted(str(other) for folder in folders for other in folder.glob("*.py"))
    known = f"; shipped configs: {', '.join(shipped)}"
    raise UserError(f"{name}: no such config file{suggest(name, [*files, *shipped]) or known}")


def copy_template(name: str) -> Path:
    """Write the config for a user's own data to `name`, with .py appended if it is missing.

    Returns the path. Raises UserError if it exists, or if `--config` would find another file by
    this name.
    """
    path = Path(name if name.endswith(".py") else f"{name}.py")
    is_shipped = (shipped_folder() / path.name).exists()
    if path.stem.startswith(".") or ":" in name or is_shipped:
        raise UserError(
            f"{name!r}: choose a name without ':' that is not that of a shipped config, such as "
            "mine"
        )
    text = (shipped_folder() / f"{TEMPLATE}.py").read_text(encoding="utf-8")
    text = text.replace(f"configs/{TEMPLATE}.py", str(path))
    text = text.replace(f"runs/{TEMPLATE}", f"runs/{path.stem}")
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise UserError(f"{path}: exists already; choose another name") from None
    with file:
        file.write(text)
    return path
