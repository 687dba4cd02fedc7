from fascicle.searchpath import FascicleSearchPath  # noqa: F401 - Hydra 1.3 finds search path plugins in this namespace
