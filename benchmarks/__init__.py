"""What minici costs on top of the work itself: `python -m benchmarks`, see docs/performance.md.

Everything is measured from outside, on real processes, real git and real sockets; nothing of
the package `minici` is imported. Beside each figure stands a floor from the same run: the least
that the same thing costs on this machine, at this moment, without minici.
"""
