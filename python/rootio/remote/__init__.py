"""Reading over XRootD, and small operations on remote storage."""

PAGE = "xrootd.md"
