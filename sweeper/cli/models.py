"""Commands that put a model in the hand."""

from __future__ import annotations

import argparse
import glob
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.cli.shared import POINT, Add, file_to_write, folder_of, point_of
from trainables.errors import UserError
from trainables.files import whole

if TYPE_CHECKING:
    from trainables.data.base import BadRecord
    from trainables.serving import Answer


def register(add: Add) -> None:
    """Enrol them."""
    asked = add("pull", pull)
    asked.add_argument("point", metavar="NAME@POINT", help=POINT)
    asked.add_argument("-o", "--out", type=file_to_write, required=True, metavar="DIR", help="a new folder")
    asked.add_argument("--merge", action="store_true", help="all weights in one file, the adapter merged in")
    asked.add_argument("--push", metavar="OWNER/REPO", help="upload it to a model hub too, as a private repository")
    asked.add_argument("--public", action="store_true", help="with --push: a repository that everybody sees")
    asked = add("predict", predict)
    asked.add_argument("folder", type=Path, metavar="DIR", help="what 'sweeper pull' wrote")
    asked.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="files, and folders of them, to look at; of a language model, lines of text",
    )
    asked.add_argument("--csv", action="store_true", help="print a table, with the probability of each label")
    asked = add("audit", audit)
    asked.add_argument("points", metavar="NAME@POINT", nargs="+", help=f"{POINT}; several of one sweep are compared")
    asked.add_argument("-o", "--output", type=file_to_write, metavar="FOLDER", help="copies of all files go there too")
    asked.add_argument(
        "--audit", default="membership", metavar="NAME", help="another one, of a plug-in; it has no options"
    )
    asked.add_argument(
        "--matched", nargs=2, metavar="METHOD", help="NAME's fits of these two methods with like training losses"
    )
    asked.add_argument(
        "--protocol", default="paper", help="who is asked about: 'paper', a fifth of the training and of the test "
        "split, or 'code', as its authors' code, an eighth and a half (default: paper)",
    )  # fmt: skip
    asked.add_argument("--shadows", type=int, default=16, help="models that are trained to compare with (default: 16)")
    asked.add_argument(
        "--shadow-method", default="lora", help="'lora', as the paper, or 'own', the fit's (default: lora)"
    )
    asked.add_argument(
        "--twins", type=int, default=4, help="models trained as the fit, without those asked about: the placebo "
        "(default: 4; 0: none)",
    )  # fmt: skip


def pull(asked: argparse.Namespace) -> int:
    """Write a point of the front to a folder that plain peft, timm and open_clip load, with a model card."""
    from sweeper.models import folder, hub

    if asked.public and not asked.push:
        raise UserError("--public is for --push OWNER/REPO. Say both.")
    name, which = point_of(asked)
    if asked.push:
        hub.check_name(asked.push)
    made = folder.pull(folder_of(asked, name), which, asked.out, merge=asked.merge)
    files = sorted(file.name for file in made.iterdir())
    if not asked.json:
        print(f"{made}: {', '.join(files)}. Read its README.md.", flush=True)
    pushed = hub.push(made, asked.push, public=asked.public) if asked.push else None
    if asked.json:
        print(json.dumps({"folder": str(made), "files": files, "pushed": pushed}, indent=2))
    elif pushed:
        print(f"pushed to {pushed} ({'public' if asked.public else 'private'})")
    return 0


def predict(asked: argparse.Namespace) -> int:
    """What a pulled model says of images, or lines of text; exit code 1 if some of the files are none, 2 if all are."""
    from trainables import serving

    if asked.csv and asked.json:
        raise UserError("--csv and --json: use one of them.")
    bad: list[BadRecord] = []
    notes: list[str] = []
    answers = []
    found: Iterator[Answer | BadRecord]
    if serving.reads_texts(asked.folder):
        found = serving.predict_texts(asked.folder, asked.images)
    else:
        images, bad, notes = serving.images_in([Path(image) for image in asked.images])
        found = serving.predict(asked.folder, images)
    for answer in found:
        if isinstance(answer, serving.Answer):
            answers.append(answer)
            if not asked.csv and not asked.json:
                print(f"{answer.image}: {answer.label} ({answer.probabilities[answer.label]:.1%})", flush=True)
        else:
            bad.append(answer)
    if asked.json:
        print(json.dumps([answer.to_json() for answer in answers], indent=2))
    elif asked.csv:
        print(_as_csv(answers), end="")
    for record in bad:
        print(f"{record.place}: {record.problem}", file=sys.stderr)
    for note in [*notes, *[f"answers: {len(answers):,}; without one: {len(bad):,}, named above"] * bool(bad)]:
        print(note, file=sys.stderr)
    return 0 if answers and not bad else 1 if answers else 2


def _as_csv(answers: Sequence[Answer]) -> str:
    import pandas as pd

    from dashboards.document.tables import to_csv

    rows = [
        {
            "text" if isinstance(answer.image, str) else "image": str(answer.image),
            "label": answer.label,
            "probability": answer.probabilities[answer.label],
        }
        | {f"probability of {label}": share for label, share in answer.probabilities.items()}
        for answer in answers
    ]
    return to_csv(pd.DataFrame(rows or {"image": [], "label": [], "probability": []}))


def audit(asked: argparse.Namespace) -> int:
    """Try to tell from points' answers whom they were trained on: membership inference with shadow models."""
    from sweeper.models import audit as auditing

    def heard(done: str) -> None:
        if not asked.json:
            print(done, flush=True)

    sweeps, points = zip(*(point.partition("@")[::2] for point in asked.points), strict=True)
    if len(set(sweeps)) > 1:
        raise UserError(f"the points are of {len(set(sweeps))} sweeps ({', '.join(asked.points)}). Use points of one.")
    if asked.audit != "membership":
        place, found = auditing.other(
            folder_of(asked, sweeps[0]), [p or "knee" for p in points], asked.audit, heard=heard
        )
        place = _copied(place, asked.output)
        print(json.dumps(found, indent=2) if asked.json else f"{place}: what {asked.audit} says, as JSON")
        return 0
    if asked.matched and (len(points) > 1 or points[0]):
        raise UserError(f"--matched finds the fits itself. Use the sweep's name alone: {sweeps[0]}.")
    place, found = auditing.membership(
        folder_of(asked, sweeps[0]),
        [point or "knee" for point in points],
        matched=asked.matched,
        heard=heard,
        protocol=asked.protocol,
        shadows=asked.shadows,
        shadow_method=asked.shadow_method,
        twins=asked.twins,
    )
    place = _copied(place, asked.output)
    lines = [
        *auditing.sentences(found),
        f"{place}: by class, attribute and cell; the curves: {place.stem}-ATTACK.png, .pdf",
    ]
    print(json.dumps(found, indent=2) if asked.json else "\n".join(lines))
    return 0


def _copied(place: Path, folder: Path | None) -> Path:
    """An audit's file, or its copy in `folder`; its pictures are beside it, here and there."""
    if folder is None:
        return place
    folder.mkdir(parents=True, exist_ok=True)
    for path in (place, *place.parent.glob(f"{glob.escape(place.stem)}-*")):
        with whole(folder / path.name) as draft:
            shutil.copyfile(path, draft)
    return folder / place.name
