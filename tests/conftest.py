"""Two fake CPU devices and strict dtype promotion for every test; set before jax starts."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("NPROC", "16")  # jax 0.10 queues steps into a deadlock on few cores without it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

from hypothesis import settings

settings.register_profile("tests", deadline=None, derandomize=True)  # a busy machine is no failure, and runs repeat
settings.load_profile("tests")
