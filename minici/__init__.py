"""minici: a small continuous-integration server and its agents."""

__version__ = "0.1.0"
