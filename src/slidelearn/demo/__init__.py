"""A learning problem made from the Python code that is already installed on a machine."""
