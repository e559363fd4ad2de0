"""The section `batch`: how jobs run on HTCondor, Slurm, other systems, the grid or this machine."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Optional

from MLTools.NanoML.extending import entries, extended, titles
from MLTools.NanoML.schema.settings import setting
from MLTools.NanoML.stages import NAMES

SYSTEMS = {
    "local": "MLTools.NanoML.batch.local:Local",
    "condor": "MLTools.NanoML.batch.condor:Condor",
    "slurm": "MLTools.NanoML.batch.slurm:Slurm",
    **entries("systems"),
    "crab": "data_processing.crab.system:Crab",
}
"""The batch systems: what `batch.on` and `nanoml submit --on` can name, and the class of each."""

TITLES = {"local": "this machine", "condor": "HTCondor", "slurm": "Slurm", **titles("systems"), "crab": "CRAB"}
"""The names of batch systems for people."""

if find_spec("data_processing") is None:  # the part with CRAB's jobs was deleted
    SYSTEMS.pop("crab")

ENVIRONMENTS = ("here", "packed", "cmssw", "container")
"""The environments that `batch.environment` can name."""

TIME = {"pattern": r"[0-9]+(?:\.[0-9]+)?\s*(?:s|m|min|h|d)", "form": "a time such as 30min, 8h or 2d"}
"""The form of a setting that is a time."""
# names of partitions and groups go into files for batch systems, and must contain nothing of their languages
_WORD = {"pattern": r"[A-Za-z0-9_.,:@+-]+", "form": "a name of letters, digits and _ . , : @ + -"}
_STAGES = (*NAMES, "tune")


@dataclass(frozen=True)
class Needs:
    """The needs of the jobs of one stage."""

    time: Optional[str] = setting(None, "Wall time; by default from the size of the files.", **TIME)
    memory: Optional[int] = setting(None, "Memory [MB].", minimum=1)
    cores: Optional[int] = setting(None, "Cores of the CPU.", minimum=1)
    gpus: Optional[int] = setting(None, "GPUs.", minimum=0)
    disk: Optional[int] = setting(None, "Room in the job's own directory [MB].", minimum=1)
    partition: Optional[str] = setting(None, "Slurm: the partition, or several with commas.", **_WORD)


@dataclass(frozen=True)
class Grid:
    """Where the jobs of CRAB run, and where their output goes."""

    site: str = setting(
        ...,
        "Where the output goes.",
        pattern="T[0-3]_[A-Z]{2}_[A-Za-z0-9_]+",
        form="a site such as T2_CH_CERN",
        examples=["T2_CH_CERN"],
    )
    directory: Optional[str] = setting(
        None,
        "The directory there; by default CRAB's.",
        pattern="/store/(?:temp/)?(?:user|group|local|test)/[A-Za-z0-9._/-]+",
        form="a directory such as /store/user/NAME/analysis",
    )
    run_at: list[str] = setting(
        ["T2_*"],
        "Where jobs run if their files are named one by one.",
        items={
            "pattern": r"T[0-3](?:_[A-Z]{2}_[A-Za-z0-9_]+|_[A-Z]{2}_\*|_?\*)",
            "form": "sites such as T2_CH_CERN, T2_DE_* or T2_*",
        },
    )


@extended("batch")
@dataclass(frozen=True)
class Batch:
    """How jobs run on a batch system."""

    on: Optional[str] = setting(
        None, "Where jobs run, unless `nanoml submit --on` says otherwise.", enum=tuple(SYSTEMS)
    )
    site: Optional[str] = setting(
        None,
        "The site: cern, shared (all machines see the same files), or a YAML file of "
        "your own. The default is cern on machines of cern.ch, and shared elsewhere.",
        examples=["cern", "my_cluster.yaml"],
    )
    environment: Optional[str] = setting(
        None,
        "Where a job finds Python and its packages: here is this environment, if all machines see it; "
        "packed is a copy of it that travels with the job; cmssw is the CMSSW area, packed likewise; container is an image.",
        enum=ENVIRONMENTS,
    )
    image: Optional[str] = setting(
        None,
        "The image of the container: a directory or .sif file, of /cvmfs/unpacked.cern.ch for instance.",
        pattern=r"[A-Za-z0-9_./:@+-]+",
        form="a path of letters, digits and _ . / : @ + -",
    )
    python: str = setting(
        "python3",
        "The Python of a job whose environment is packed or a container.",
        pattern="[A-Za-z0-9_./+-]+",
        form="a command or a path",
    )
    setup: list[str] = setting(list, "Lines of shell that a job runs first.", examples=[["module load cuda"]])
    job_time: str = setting("30min", "How long a job should take; this decides how many files it gets.", **TIME)
    files_per_job: Optional[int] = setting(None, "Instead of job_time: how many files a job gets.", minimum=1)
    retries: int = setting(2, "How often a failed job is retried automatically.", minimum=0)
    at_once: Optional[int] = setting(None, "How many jobs may run at the same time at most.", minimum=1)
    time: Optional[str] = setting(None, "Wall time of jobs of all stages.", **TIME)
    memory: Optional[int] = setting(None, "Memory of a job [MB].", minimum=1)
    disk: Optional[int] = setting(None, "Room in a job's own directory [MB].", minimum=1)
    partition: Optional[str] = setting(None, "Slurm: the partition, or several with commas.", **_WORD)
    account: Optional[str] = setting(None, "Slurm: the account. HTCondor: the accounting group.", **_WORD)
    lines: list[str] = setting(
        list, "Lines that go unchanged into the description of jobs: `#SBATCH --qos=low` or `+Key = Value`."
    )
    templates: Optional[str] = setting(
        None, "Directory with your own templates, which replace NanoML's of the same name."
    )
    stages: dict[str, Needs] = setting(
        dict,
        f"What the jobs of single stages ask for: {', '.join(_STAGES)}.",
        names={"enum": _STAGES},
        examples=[{"train": {"gpus": 1, "time": "8h"}}],
    )
    grid: Optional[Grid] = setting(None, "Where CRAB's jobs run and write.")
