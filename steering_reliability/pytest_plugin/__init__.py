"""The pytest plugin: the only part that imports pytest.

``plugin`` holds the hooks and nothing else; ``options`` the command line; ``collection`` finds
levels and makes tests of cells; ``fixtures`` is what a test sees; ``session`` is the state of a
run; ``unchecked`` says what no test of it asked for; ``transport`` is what crosses the wire
between processes.
"""
