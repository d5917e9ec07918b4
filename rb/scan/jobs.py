"""Which pairs a scan is of: one, a folder of them, or a list."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from rb.errors import UserError
from rb.io.files import check_target
from rb.scan.images import split_place

Job = tuple[str, str, Path]
"""Search image, template, catalogue."""

SUFFIXES = (".parquet", ".csv", ".vot", ".fits")
"""Of catalogues."""

_LIST = ".csv"
_COLUMNS = ("search", "template")


def jobs_of(
    search: str, template: str | None, out: Path, overwrite: bool = False
) -> tuple[list[Job], bool]:
    """The pairs that are still to be scanned.

    Parameters
    ----------
    search : str
        An image (see `rb.scan.images.read_image`), a folder of FITS files, or a list: a CSV file
        with the columns ``search`` and ``template``.
    template : str, optional
        An image, or a folder with files of the same names; of a list, nothing.
    out : Path
        The catalogue; of several pairs, the folder of the catalogues.
    overwrite : bool
        Whether catalogues that are there are made again.

    Returns
    -------
    jobs : list of Job
        A catalogue is there when it is whole, so that a scan that was stopped goes on.
    single : bool
        Whether it is one pair, and no folder or list.

    Raises
    ------
    UserError
        If something is not there, or there already; the message says what.
    """
    if Path(search).suffix == _LIST:
        if template is not None:
            raise UserError(f"{search}: is a list, with its own templates; leave {template} out")
        pairs = _listed(Path(search))
    elif template is None:
        raise UserError(f"{search}: give the template behind it; only a list (.csv) names its own")
    elif os.path.isdir(search):
        pairs = _of_folders(Path(search), Path(template))
    else:
        for image in (search, template):
            _check_image(image)
        check_target(out, SUFFIXES, overwrite)
        return [(search, template, out)], True
    if out.suffix:
        raise UserError(f"{out}: {search} is of several pairs, so give --out a folder")
    jobs = [(*pair, out / f"{_stem(pair[0])}.parquet") for pair in pairs]
    names = [job[2] for job in jobs]
    if double := sorted({name.name for name in names if names.count(name) > 1}):
        raise UserError(f"{search}: two search images would both write {double[0]}; rename one")
    todo = [job for job in jobs if overwrite or not job[2].exists()]
    print(f"{search}: {len(jobs)} pairs, {len(jobs) - len(todo)} of them scanned before")
    return todo, False


def _stem(image: str) -> str:
    """Name of the catalogue of an image: that of its file, with the extension if one is named."""
    path, extension = split_place(image)
    return Path(path).name.split(".fit")[0] + (f"_{extension}" if extension else "")


def _of_folders(search: Path, template: Path) -> list[tuple[str, str]]:
    if not template.is_dir():
        raise UserError(f"{template}: {search} is a folder, so give a folder of templates")
    names = sorted(p.name for p in search.iterdir() if ".fit" in p.name and p.is_file())
    if not names:
        raise UserError(f"{search}: holds no FITS files")
    missing = [name for name in names if not (template / name).exists()]
    if missing:
        raise UserError(f"{template}: has no {missing[0]} ({len(missing)} templates are missing)")
    return [(str(search / name), str(template / name)) for name in names]


def _listed(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a list of pairs ({error})") from error
    if not rows or not set(_COLUMNS) <= set(rows[0]):
        raise UserError(f"{path}: give a line with search,template, and a line for each pair")
    pairs = []
    for number, row in enumerate(rows, start=2):
        pair = tuple((row[name] or "").strip() for name in _COLUMNS)
        for image in pair:
            _check_image(image, f"{path}, line {number}: ")
        pairs.append((pair[0], pair[1]))
    return pairs


def _check_image(image: str, where: str = "") -> None:
    """Refuse what is not there before anything is imported that takes seconds."""
    if not os.path.isfile(split_place(image)[0]):  # pathlib raises at a name that is too long
        raise UserError(f"{where}{image[:200]}: there is no such file")
