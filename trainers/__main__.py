"""`python -m trainers` is the console command `lowrank`."""

import sys

from trainers.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
