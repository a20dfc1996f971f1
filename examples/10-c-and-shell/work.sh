#!/bin/sh
# A shell script that beats once per step; CEML's lines are marked.
set -eu
here=$(dirname "$0")
. "$here/../../ceml/apps/ceml_heartbeat.sh" # CEML: or a copy beside the script, by `ceml client shell`
steps=${1:-20} step=0
while [ "$step" -lt "$steps" ]; do
    step=$((step + 1))
    head -c 200000 /dev/zero | cksum > /dev/null
    ceml_beat shell "$step" share=$((100 * step / steps)) # CEML
done
ceml_leave shell # CEML
echo "done: $steps steps"
