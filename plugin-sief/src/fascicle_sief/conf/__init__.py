"""Option files of the plugin, by group."""
