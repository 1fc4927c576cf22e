"""Models: where they are, how they are asked, and what steering needs to know of them."""

import os

# Read when torch is first imported, below this package. Threads that spin while they wait starve
# each other where anything else runs on the same cores, such as a second worker.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
