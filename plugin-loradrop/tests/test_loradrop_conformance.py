"""The rules of the house that every plugin keeps."""

from fascicle.testing import PluginConformance


class TestLoradrop(PluginConformance):
    plugin = "loradrop"
