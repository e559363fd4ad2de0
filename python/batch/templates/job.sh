#!/bin/bash
# Does one job of NanoML: bash job.sh NAME CORES
export NANOML_CORES=$2 OMP_NUM_THREADS=$2 OPENBLAS_NUM_THREADS=$2 MKL_NUM_THREADS=$2
{% for name, value in variables.items() -%}
export {{ name }}={{ value | shell }}
{% endfor -%}
export PYTHONNOUSERSITE=1
{% if token -%}
unset BEARER_TOKEN
export BEARER_TOKEN_FILE={% if shared %}{{ token | shell }}{% else %}$PWD/{{ token.rpartition("/")[2] | shell }}{% endif %}
{% endif -%}
{% for line in setup -%}
{{ line }}
{% endfor -%}
{% if proxy and shared -%}
export X509_USER_PROXY={{ proxy | shell }}
{% endif -%}
{% if shared -%}
exec {{ command | shell }} work "jobs/$1.json" --result "results/$1.json"
{% else -%}
export HOME=${HOME:-$PWD} # ROOT does not start without one
for archive in code-*.tar.gz{% if environment == "packed" %} environment-*.tar.gz{% endif %}; do
    tar -xzf "$archive" && rm "$archive" || { echo "$archive cannot be unpacked: the disk is full, or the file is damaged" >&2; exit 1; }
done
export PYTHONPATH=$PWD/lib{% if environment == "packed" %}:$PWD/site{% endif %}
{% if environment == "packed" -%}
wanted={{ python_version }}
found=$({{ python | shell }} -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$wanted" ] || {
    echo "ModuleNotFoundError: the packed environment is for Python $wanted, and "{{ python | shell }}" is Python $found. Name another by batch.python." >&2
    exit 2
}
{% elif environment == "cmssw" -%}
job=$PWD
source "${CMSSW_SETUP:-/cvmfs/cms.cern.ch/cmsset_default.sh}" || { echo "CMSSW cannot be set up: this machine has no /cvmfs/cms.cern.ch" >&2; exit 1; }
export SCRAM_ARCH={{ scram_arch | shell }}
scramv1 project CMSSW {{ cmssw_version | shell }} && cd {{ cmssw_version | shell }} &&
    tar -xzf "$job/"{{ area | shell }} && eval "$(scramv1 runtime -sh)" || { echo "the area of CMSSW cannot be made" >&2; exit 1; }
cd "$job"
export PYTHONPATH=$PWD/lib:$PYTHONPATH
{% endif -%}
exec {{ python | shell }} -m MLTools.NanoML.cli work "jobs/$1.json" --result "results/$1.json"
{% endif -%}
