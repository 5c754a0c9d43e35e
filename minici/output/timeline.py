"""The timeline of an output: is it sound? A disk, or a hand, may have changed anything in it.

Readers search it by halving, which needs ends that rise, and serve what it promises, so it has
to agree with the streams that are there.
"""

from __future__ import annotations

import operator
import os
import sys
import threading
from array import array
from collections import OrderedDict

from minici.output.format import RECORD

_MOST_REMEMBERED = 1000  # timelines
_SHORT_RECORDS = 4096  # are checked each time, in less than a millisecond
_BLOCK_BYTES = RECORD.size * 4096

_lock = threading.Lock()  # guards the next
# By device and inode: when it was written last, how many records there were, and do they rise.
_checked: OrderedDict[tuple[int, int], tuple[int, int, bool]] = OrderedDict()


def ends_rise(descriptor: int, first: int) -> bool:
    """Check that no end of a stream is below the one before it, from record `first` on.

    A long timeline that has only grown since it was last checked is checked where it has grown.
    Any thread may call it. Raises OSError.
    """
    status = os.fstat(descriptor)
    count = status.st_size // RECORD.size
    if count <= _SHORT_RECORDS:
        return _rise(descriptor, first, count)
    key = status.st_dev, status.st_ino
    with _lock:
        written, known, rising = _checked.get(key, (0, 0, True))
    if (written, known) == (status.st_mtime_ns, count):
        return rising
    # The last record may have been written anew.
    begin = max(first, known - 2) if rising and known < count else first
    rising = _rise(descriptor, begin, count)
    with _lock:
        _checked[key] = status.st_mtime_ns, count, rising
        _checked.move_to_end(key)
        if len(_checked) > _MOST_REMEMBERED:
            _checked.popitem(last=False)
    return rising


def _rise(descriptor: int, first: int, count: int) -> bool:
    place, end = first * RECORD.size, count * RECORD.size
    while place < end:
        data = os.pread(descriptor, min(_BLOCK_BYTES, end - place), place)
        values = array("Q", data[: len(data) // RECORD.size * RECORD.size])
        if sys.byteorder == "big":
            values.byteswap()
        for column in (0, 1):
            ends = values[column::3]
            if any(map(operator.gt, ends, ends[1:])):
                return False
        if place + len(data) >= end or len(values) < 6:
            return True
        place += (
            len(values) // 3 * RECORD.size - RECORD.size
        )  # the last record is compared with the next block's
    return True
