"""Jobs on HTCondor, Slurm, CRAB or this machine: a plan is translated for them, and what they leave is accounted for."""

PAGE = "batch.md"
