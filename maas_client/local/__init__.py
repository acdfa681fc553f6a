"""The local server: Azure's HTTP on this machine, with real training behind it.

    with maas_client.local.serve(base="tiny") as server:
        client = server.client()

Needs ``pip install 'maas-client[server]'``, for training ``[local]``. Nothing is imported here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maas_client.local.embed import LocalServer as LocalServer
    from maas_client.local.embed import serve as serve
else:

    def __getattr__(name):
        if name in {"serve", "LocalServer"}:
            from maas_client.local import embed

            return getattr(embed, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
