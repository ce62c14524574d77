"""`recbole-cdsr doctor`: what this installation consists of and what it can do, for a person or a bug report."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from recbole_cdsr import __version__, compat
from recbole_cdsr.config_names import checkout_folder, props_file
from recbole_cdsr.config_values import read_config_file
from recbole_cdsr.data.card import load_card
from recbole_cdsr.data.loading import interaction_files
from recbole_cdsr.errors import CDSRError
from recbole_cdsr.llm.encoder_sources import find_default_encoder

LIBRARIES = ("torch", "numpy", "pandas", "scipy", "scikit-learn", "transformers", "sentence-transformers", "recbole")


def report() -> str:
    """Describe versions, what was mended for RecBole, the text encoder, the device and the datasets.

    Nothing is loaded, downloaded or changed.

    Returns
    -------
    str
        Several lines, in sections.
    """
    sections = {
        "Versions": [f"{name:<22} {version}" for name, version in versions().items()],
        "Pinned versions": _pins(checkout_folder() / "constraints.txt"),
        "Mended for RecBole": compat.mend() or ["nothing"],
        "Default text encoder": _encoder(),
        "Device": [device()],
        "Datasets": [line for folder in data_roots() for line in datasets(folder)] or ["none found"],
    }
    return "\n\n".join("\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in sections.items())


def versions() -> dict[str, str]:
    """Versions by name: Python, this package, and the libraries that results depend on."""
    found = {"python": platform.python_version(), "recbole-cdsr": __version__}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def differences_from(constraints: Path) -> list[str]:
    """What is installed in another version than `constraints` pins, one sentence each.

    Local build labels (`+cpu`) make no difference, and what is pinned but not installed is passed over.

    Parameters
    ----------
    constraints
        A file of `name==version` lines.
    """
    differences = []
    for pin in _pinned(constraints):
        try:
            installed = metadata.version(pin.name)
        except metadata.PackageNotFoundError:
            continue
        if not pin.specifier.contains(Version(installed).public, prereleases=True):
            differences.append(f"{pin.name} {installed} is installed, {str(pin.specifier).lstrip('=')} is pinned")
    return differences


def device() -> str:
    """What RecBole computes on by default, in words."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        count = torch.cuda.device_count()
        more = f", {count} devices" if count > 1 else ""
        return f"cuda: {properties.name}, {properties.total_memory / 2**30:.0f} GiB (CUDA {torch.version.cuda}{more})"
    return f"cpu: {torch.get_num_threads()} threads of {os.cpu_count()} cores ({platform.machine()})"


def data_roots() -> list[Path]:
    """The folders in which a dataset's name is looked up, in that order."""
    overall = props_file("overall")
    root = Path(str(read_config_file(overall).settings["data_path"].value)) if overall else Path("atomic_data")
    folders = {folder.resolve(): folder for folder in (root, checkout_folder() / root) if folder.is_dir()}
    return list(folders)


def datasets(folder: Path) -> list[str]:
    """One line for each dataset of a folder: its name, whether it is synthetic, its size or what is wrong with it."""
    return [f"{path}: {_dataset(path)}" for path in sorted(folder.iterdir()) if _holds_atomic_files(path)]


def _pins(constraints: Path) -> list[str]:
    if not constraints.is_file():
        return ["no constraints.txt beside the package, nothing to compare with"]
    return differences_from(constraints) or ["as in constraints.txt"]


def _pinned(constraints: Path) -> Iterator[Requirement]:
    for line in constraints.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            pin = Requirement(text)
        except InvalidRequirement:
            continue
        if pin.marker is None or pin.marker.evaluate():
            yield pin


def _encoder() -> list[str]:
    found = find_default_encoder()
    if not found["found"]:
        return [f"{found['name']}: not found", found["remedy"]]
    where = found["revision"] if found["origin"] == "package" else f"{found['folder']} ({found['revision']})"
    line = f"{found['name']}, from {where}"
    if not found["hash_ok"]:
        return [f"{line}: WRONG WEIGHTS", found["remedy"]]
    return [f"{line}: weights verified (SHA-256 {found['weights_sha256'][:12]}...)"]


def _holds_atomic_files(path: Path) -> bool:
    return path.is_dir() and any(path.glob(f"{path.name}.*"))


def _dataset(path: Path) -> str:
    try:
        interaction_files(path, path.name)
        card = load_card(path, path.name)
    except CDSRError as error:
        return str(error)
    if card is None:
        return "no card, so where it comes from is not known"
    domains = ", ".join(f"{domain['name']} {domain.get('items', 0):,} items" for domain in card.domains)
    kind = "SYNTHETIC" if card.synthetic else "real"
    return f"{kind}; {domains}; {card.users:,} users, {card.overlapped_users:,} overlapped; split {card.split or '?'}"
