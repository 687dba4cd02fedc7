"""The commands of `fascicle`, one module each; `fascicle.cli` imports the one that is asked for."""
