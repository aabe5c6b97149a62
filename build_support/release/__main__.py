"""Builds a release in dist/ from the tracked files, tries it, and writes its notes. It publishes nothing.

``make release`` runs it, and ``make wheel`` with ``--only packages``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from build_support.compiling import ROOT
from build_support.release import images, notes, packages, tracked_files
from build_support.release.changelog import unreleased, version_of
from build_support.release.errors import ReleaseError
from build_support.release.tracked_files import Source

SUMS = "SHA256SUMS"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m build_support.release", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the packages; those of before go")
    parser.add_argument("--images", default="auto", help="auto (where Docker is), none, cpu, gpu or cpu,gpu")
    parser.add_argument("--only", choices=["packages", "images"], help="packages are built and checked, but not tried")
    arguments = parser.parse_args()
    # kept where something fails, to look at
    scratch = Path(tempfile.mkdtemp(prefix="hetsyn-release-"))
    try:
        release(scratch, arguments.out, arguments.images, arguments.only)
    except ReleaseError as error:
        sys.exit(f"{error}\nno release; {scratch} has what was made")
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {scratch} has what was made")
    shutil.rmtree(scratch)


def release(scratch: Path, output: Path, wanted_images: str, only: str | None) -> None:
    """Build and try packages and images, write the notes, and print whether it is a release or a rehearsal.

    Args:
        scratch: folder for the work.
        output: folder of the packages.
        wanted_images: as ``--images``.
        only: ``packages`` or ``images``; None for a release.

    Raises:
        ReleaseError: something is not as it has to be.
    """
    version = version_of((ROOT / "pyproject.toml").read_text())
    pending = unreleased((ROOT / "CHANGELOG.md").read_text(), version)
    names, no_images = ([], "") if only == "packages" else images.choose(wanted_images)
    found, checkout = tracked_files.read(ROOT), scratch / "checkout"
    tracked_files.copy(ROOT, checkout)
    say(f"commit {found.commit[:12]}{'' if found.is_clean else ', and changes that are not committed'}")
    tried = []
    if only != "images":
        built = build_packages(found, checkout, scratch, output)
        for package in built if only is None else ():
            if package.suffix == ".gz" or packages.fits_here(package):
                say(f"{package.name}, in an empty environment:")
                say(packages.try_package(package, scratch / f"try-{package.name}", version), 4)
                tried.append(f"`{package.name}`: installed into an empty environment, golden streams run and served")
            else:
                tried.append(f"`{package.name}`: built twice with equal bytes, and not tried on this machine")
    for runtime in names:
        image = images.build(runtime, checkout, version, found.commit)
        say(f"image {image}, {images.size_bytes(image) / 1e9:.1f} GB, in a container without a network:")
        say(images.try_image(image, version), 4)
        tried.append(f"image `{image}`: golden streams served in a container without a network")
    if no_images:
        say(f"images: none, {no_images}")
        tried.append(f"images: none were built, {no_images}")
    if only is None:
        (output / notes.NAME).write_text(notes.notes(ROOT, version, found.commit, tried))
        say(f"{notes.NAME}: what it does, for whom, its figures, what was tried")
        reasons = [pending] if pending else []
        reasons += [] if found.is_clean else ["the checkout has changes that are not committed"]
        if reasons:
            say(f"rehearsal of {version}, no release: {'; '.join(reasons)}")
        else:
            say(f"release {version} of {found.commit[:12]} is in {output}; nothing was published")


def build_packages(found: Source, checkout: Path, scratch: Path, output: Path) -> list[Path]:
    """Build source distribution and wheels, each twice, check them, and write their digests.

    Args:
        found: what is released.
        checkout: copy of its files.
        scratch: folder for the work.
        output: folder of the packages; those of before are removed.

    Raises:
        ReleaseError: a build fails, differs from the other, or has wrong contents.
    """
    for old in (
        *output.glob("hetsyn-*.whl"),
        *output.glob("hetsyn-*.tar.gz"),
        *output.glob(SUMS),
        *output.glob(notes.NAME),
    ):
        old.unlink()
    builds: list[list[Path]] = []
    for folder in (output, scratch / "second"):
        work = scratch / f"build-{len(builds)}"
        shutil.copytree(checkout, work, symlinks=True)  # a build leaves files behind
        builds.append(packages.build(work, folder, packages.MACHINES, found.epoch_s))
    for first, second in zip(*builds, strict=True):
        packages.require_equal(first, second)
        packages.check(first, checkout)
        say(f"{first.name}: {first.stat().st_size:,} bytes, equal in two builds")
    # as ``sha256sum --check`` reads them
    lines = [f"{packages.digest(path)}  {path.name}\n" for path in sorted(builds[0])]
    (output / SUMS).write_text("".join(lines))
    say(f"{SUMS}: {len(lines)} packages")
    return builds[0]


def say(text: str, indent: int = 0) -> None:
    print("\n".join(" " * indent + line for line in text.strip().splitlines()), flush=True)


if __name__ == "__main__":
    main()
