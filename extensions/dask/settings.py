"""What the section `batch` says of Dask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from MLTools.NanoML.schema.settings import setting


@dataclass(frozen=True)
class DaskCluster:
    """The Dask cluster that does the jobs. The default is that of Dask's own configuration, or one on this machine."""

    cluster: Optional[str] = setting(
        None,
        "The address of its scheduler; or the class of a cluster, which is started for the jobs of each stage.",
        pattern=r"[a-z]+://\S+|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+",
        form="an address such as tls://HOST:8786, or MODULE.CLASS",
        examples=["tls://localhost:8786", "dask_jobqueue.SLURMCluster"],
    )
    options: dict[str, Any] = setting(
        dict, "Arguments of this class, besides those that NanoML knows.", examples=[{"interface": "ib0"}]
    )


@dataclass(frozen=True)
class DaskSettings:
    """The settings of the section `batch`."""

    dask: Optional[DaskCluster] = setting(None, "The Dask cluster that does the jobs.")
