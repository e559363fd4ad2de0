"""Real services that tests start on this machine, as fixtures of pytest.

They listen on loopback at ports that were free, have a directory of their own, run beside those of another test
process, and end with the tests, also when these are killed. A test that needs what is not installed is skipped, and
says which Debian package has it. Tests that use them have the marker `service`.

XRootD (xrootd.py)
    xrootd
        Session: a redirector and two data servers with the example's files, "/store/DATASET/FILE.root", on both. Only
        to read from. `.url` of the redirector ("root://127.0.0.1:PORT/"; a file is url + "/store/..."), `.servers`,
        each with `.url` and `.root` (local directory of its /store), `.environment` (variables that let clients give
        up after seconds).
    xrootd_cluster
        Test: xrootd_cluster(files, own={}, size=2) starts a cluster for this test, in about a second. `files` are
        {"/store/...": local path} on all servers, `own` is {number of the server: files that it alone has}. Beside the
        above, each server may `.kill()` (SIGKILL), `.start()` again, `.stop()` (SIGSTOP: it hangs) and `.go_on()`.
        For a minute, a redirector remembers that a file was nowhere: name all files at the start.
    storage
        Session: one server that may be written to (xrdcp, xrdfs mkdir, mv, rm, query checksum: adler32) and stands in
        for a site's storage: `.url`, `.directory` (the local directory of its /), `.environment`, `.kill()`,
        `.start()`.

HTCondor (condor.py)
    condor_pool
        Session: a pool with a machine of 8 CPUs (whatever there are) and 16 GB, whose jobs begin a second or two after
        they are submitted. What jobs ask for is counted, not the memory that they take. `.environment` (CONDOR_CONFIG:
        all that a client needs), `.directory`, `.run(argv, check=True, cwd=None, timeout=60)`, `.processes("12.0")` of
        a running job, `.kill("12.0")` (SIGKILL, as when memory is short); condor_hold, condor_release,
        condor_vacate_job -fast and condor_rm work. DAGMan looks once a second. root:// works in transfer_input_files
        and output_destination, by xrdcp. MY.SendCredential is dropped, since there are no credentials; other knobs of
        CERN are ignored. The pool is shared: remove the jobs that you leave (condor_rm CLUSTER).

Slurm (slurm.py)
    slurm
        Session: a cluster with a node of 8 CPUs (whatever there are) and 16 GB, and the partitions short (an hour, the
        default) and long (a week). What jobs ask for is counted, but nobody ends a job that takes more memory than it
        asked for; there is no sacct. `.environment` (SLURM_CONF: all that a client needs), `.directory` (jobcomp in it
        has a line for each job that ended), `.run(...)`, `.processes("12")` or "12_3" of an array, `.kill("12_3")` as
        above; scancel, scontrol requeue, hold and release work. Jobs are those of who runs the tests, also of root.
        The cluster is shared: cancel the jobs that you leave (scancel JOB).

Certificates (certificates.py)
    certificates
        Session: a certification authority with a user, a host and a VOMS server of cms. `.proxy(hours=12, vo="cms",
        vo_hours=None)` makes a proxy in a new file of mode 0600 and returns its path, in a thirtieth of a second: of a
        few seconds (hours=5 / 3600), expired (hours=-1), without an organisation (vo=None), of one that is not known
        here (vo="atlas"), or whose VOMS part has expired (vo_hours=-1). `.environment` (X509_CERT_DIR, X509_VOMS_DIR;
        name a proxy by X509_USER_PROXY), `.subject` of the user, `.directory`: user.pem, user.key, host.pem, host.key,
        certificates/, vomsdir/.
    xrootd_voms
        Session: a server with the example's files that rejects whoever has no valid VOMS proxy of cms ("Auth failed"):
        `.url`, `.root`, `.environment` (with that of `certificates`). It accepts a proxy that others may read.

Jobs (analysis.py)
    Analysis is no service, but what uses them: the example's skim in a directory, `.submit()`, `.wait()`, `.resubmit()`
    and so on, and `.check(reference)`: all is done, each task once, as in an undisturbed run.

When root runs the tests, XRootD and HTCondor, which do not serve root, run as "nobody" who may use all of root's
files (capabilities of Linux): the tests' directories and the interpreter may lie where only root may look.
"""
