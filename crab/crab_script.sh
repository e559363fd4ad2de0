#!/bin/bash
# What CRAB runs: crab_script.sh JOBNUMBER. Whatever happens, FrameworkJobReport.xml says how the job ended.

cd "$(dirname "$0")" || exit 1
rm -f FrameworkJobReport.xml
# ROOT does not start without a home directory
export PYTHONUNBUFFERED=1 PYTHONNOUSERSITE=1 HOME="${HOME:-$PWD}"
python3 crab_script.py "$@"
code=$?

# killed, or it could not even begin: Python has told the rest in the log
if ((code)) && ! grep -q FrameworkError FrameworkJobReport.xml 2>/dev/null; then
    printf '<FrameworkJobReport><FrameworkError ExitStatus="%d" Type="NanoML">%s</FrameworkError></FrameworkJobReport>\n' \
        "$code" "crab_script.py ended with exit code $code and no report of its own: see the end of the log." >FrameworkJobReport.xml
fi
exit $code
