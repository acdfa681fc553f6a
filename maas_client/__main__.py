"""``python -m maas_client`` is ``maas-client``."""

import sys

from maas_client.cli import main

if __name__ == "__main__":
    sys.exit(main())
