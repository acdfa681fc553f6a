"""The local server: Azure's fine-tuning HTTP APIs on this machine, with real training.

Example::

    with maas_client.local.serve(base="tiny") as server:
        client = server.client()

Install it with ``pip install 'maas-client[server]'``; training also needs the ``[local]`` extra.
Importing this package imports none of that.
"""

from typing import TYPE_CHECKING

__all__ = ["LocalServer", "serve"]

if TYPE_CHECKING:
    from maas_client.local.embedded_server import LocalServer as LocalServer
    from maas_client.local.embedded_server import serve as serve
else:

    def __getattr__(name):
        if name in __all__:
            from maas_client.local import embedded_server

            return getattr(embedded_server, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
