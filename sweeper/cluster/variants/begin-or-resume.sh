#!/bin/bash
# Begin the sweep of a spec, or go on with it if it was begun: what a scheduler may run as often as it likes.
#
#   begin-or-resume.sh sweep.yaml
set -euo pipefail
place=$(sweeper validate --no-data --json "$1" | python3 -c '
import json, sys
spec = json.load(sys.stdin)
print(spec["storage"]["root"] + "/" + spec["name"])')
if [ -e "$place/spec.yaml" ]; then
  exec sweeper resume --root "${place%/*}" "${place##*/}"
fi
exec sweeper run "$1"
