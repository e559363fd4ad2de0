"""The files of datasets: what CMS's catalogue (DAS, DBS) knows of them, and what lies in directories of servers."""
