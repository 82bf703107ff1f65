"""What each command's `--help` ends with: lines to type. A test parses every one."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("sweeper demo", "sweeper demo --root /tmp/sweeps"),
    "validate": ("sweeper validate sweep.yaml", "sweeper validate fairlora-waterbirds-vit --data waterbirds"),
    "plan": ("sweeper plan sweep.yaml", "sweeper plan sweep.yaml --json"),
    "run": ("sweeper run sweep.yaml", "sweeper run fairlora-waterbirds-vit --data waterbirds --name my-birds"),
    "resume": ("sweeper resume my-birds --trials 64", "sweeper resume my-birds --with other-resources.yaml"),
    "more": ("sweeper more my-birds@knee --seeds 5", "sweeper more my-birds@17 --seeds 8"),
    "try": ("sweeper try my-birds lambda=0.3 rank=16", "sweeper try my-birds method=fft --seeds 5"),
    "narrow": ("sweeper narrow my-birds lambda=0.1..10", "sweeper narrow my-birds rank=8,16,32 method=fairlora"),
    "confirm": ("sweeper confirm my-birds@knee --seeds 5", "sweeper confirm my-birds@17 --baseline fft"),
    "status": ("sweeper status my-birds --follow", "sweeper status my-birds --json"),
    "list": ("sweeper list", "sweeper list --root /shared/sweeps --json"),
    "ui": ("sweeper ui my-birds", "sweeper ui my-birds --port 5001"),
    "rebuild-record": ("sweeper rebuild-record my-birds", "sweeper rebuild-record my-birds --json"),
    "schema": ("sweeper schema", "sweeper schema > sweep.schema.json"),
    "doctor": ("sweeper doctor", "sweeper doctor --cluster mine.yaml"),
    "data check": (
        "sweeper data check my-birds --sheet cells.png",
        "sweeper data check faces.csv --columns image=file,label=gender,attribute=race",
    ),
    "data distance": (
        "sweeper data distance my-birds digits-on-scenes",
        "sweeper data distance my-birds other-birds --most 2000 --json",
    ),
    "init": (
        "sweeper init my-birds -o birds.yaml",
        "sweeper init faces.csv --columns image=file,label=sex --hours 8",
    ),
    "pareto": ("sweeper pareto my-birds", "sweeper pareto my-birds --at-least accuracy=0.82"),
    "report": ("sweeper report my-birds", "sweeper report my-birds -o tables.tex --figures figures"),
    "compare": ("sweeper compare my-birds another -o both.html", "sweeper compare my-birds another --table -o t.csv"),
    "paper": ("sweeper paper my-birds -o papers", "sweeper paper my-birds another -o papers --rule knee"),
    "export": ("sweeper export my-birds -o trials.parquet", "sweeper export my-birds --format json"),
    "clone": ("sweeper clone my-birds -o more-birds.yaml", "sweeper clone my-birds -o new.yaml --name wider"),
    "delete": ("sweeper delete my-birds", "sweeper delete my-birds --yes --json"),
    "stop": ("sweeper stop my-birds", "sweeper stop my-birds --now"),
    "submit": ("sweeper submit sweep.yaml", "sweeper submit sweep.yaml --cluster mine.yaml"),
    "logs": ("sweeper logs my-birds 17", "sweeper logs my-birds --follow"),
    "down": ("sweeper down", "sweeper down --cluster mine.yaml --yes"),
    "head up": ("sweeper head up /shared", "sweeper head up /shared --port 5001"),
    "head down": ("sweeper head down /shared", "sweeper head down /shared --port 5001"),
    "head status": ("sweeper head status /shared", "sweeper head status /shared --json"),
    "head run": ("sweeper head run /shared", "sweeper head run /shared --port 5001"),
    "pull": ("sweeper pull my-birds@knee -o knee --merge", "sweeper pull my-birds@17 -o best --push me/my-birds"),
    "predict": ("sweeper predict knee a.png photos/", "sweeper predict knee photos/ --csv"),
    "audit": ("sweeper audit my-birds@knee", "sweeper audit my-birds --matched lora fft"),
    "plugins": ("sweeper plugins", "sweeper plugins test brier"),
    "completion": ('eval "$(sweeper completion bash)"', "sweeper completion fish | source"),
}
