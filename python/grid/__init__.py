"""What surrounds the files at CERN and elsewhere: proxies, and reading over XRootD."""
