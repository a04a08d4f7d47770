"""A virtual environment without `fal_hf`, and with all other packages of this one."""

import site
import subprocess
import sys
from pathlib import Path


def make_environment(folder: Path) -> Path:
    """Creates an environment in `folder` and returns its Python; the packages are links, so that it is small."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = folder / "packages"
    packages.mkdir()
    for entry in (entry for found in site.getsitepackages() for entry in Path(found).iterdir()):
        if not entry.name.startswith(("fal_hf", "__editable__", "_editable_impl_fal")):
            (packages / entry.name).symlink_to(entry)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "packages.pth").write_text(str(packages))
    return folder / "bin" / "python"
