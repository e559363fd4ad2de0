"""Real services that tests start on this machine, as fixtures of pytest (fixtures.py).

They listen on loopback at ports that were free, have a directory of their own, run beside those of another test
process, and end with the tests, also when these are killed. A test that needs what is not installed is skipped, and
says which Debian package has it. Tests that use them have the marker `service`. `.environment` of each is all that its
clients need.

XRootD (xrootd.py)
    The example's files are "/store/DATASET/FILE.root". Servers may `.kill()` (SIGKILL), `.start()` again, `.stop()`
    (SIGSTOP: they hang) and `.go_on()`. For a minute, a redirector remembers that a file was nowhere: name all files at
    the start. Servers that want a proxy or a token take those of certificates.py and tokens.py.

HTCondor (condor.py) and Slurm (slurm.py)
    A machine of 8 CPUs (whatever there are) and 16 GB, whose jobs begin a second or two after they are submitted. What
    jobs ask for is counted, not the memory that they take. `.kill(job)` is as when memory is short. Both are shared:
    remove the jobs that you leave. HTCondor: DAGMan looks once a second; root:// works in transfer_input_files and
    output_destination; there are no credentials, and other knobs of CERN are ignored. Slurm: partitions short (an hour,
    the default) and long (a week); jobs are those of who runs the tests, also of root; there is no sacct.

Jobs (analysis.py)
    Analysis is no service, but what uses them: the example's skim in a directory, `.submit()`, `.wait()`, `.resubmit()`
    and so on, and `.check(reference)`: all is done, each task once, as in an undisturbed run.

When root runs the tests, XRootD and HTCondor, which do not serve root, run as "nobody" who may use all of root's
files (capabilities of Linux): the tests' directories and the interpreter may lie where only root may look.
"""
