#!/bin/bash
# Jobs that must end with exit code 8001, and say why. Of an exit code one byte remains: 65.
set -u
cd "$(dirname "$0")/framework"
refused() {
    said=$(cmsRun compare_cfg.py "$1" 2>&1)
    code=$?
    echo "$1: $code"
    [ "$code" = 65 ] && grep -qF "$2" <<<"$said" || { echo "$said"; exit 1; }
}
refused wrong-era "has the selection of era 2018 inside, but \`era\` is 2022"
refused no-triggers "no trigger results have HLT_Mu50"
