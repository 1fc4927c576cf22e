"""Repository-wide pytest set-up; the product's plugin comes from its installed entry point."""

# Tests of the plugin run pytest in a folder of their own; pytest asks for this line at the root.
pytest_plugins = ["pytester"]
