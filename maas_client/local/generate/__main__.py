"""``python -m maas_client.local.generate``."""

import sys

from maas_client.local.generate.process import main

if __name__ == "__main__":
    sys.exit(main())
