"""Everything that can go wrong, as one small tree.

    EomtBatchError
    ├── UsageError          nothing was started: a wrong option, input, model or output      exit 2
    │   ├── InputError      the raster
    │   ├── OutputError     the place for the result
    │   └── ChangedError    the run that is there was started with other options
    ├── RunError            a block failed, or a defect; the store that stands can be continued      exit 1
    │   └── BlockError      names the block and the window; what can be skipped
    │       └── TransientError      may pass: another attempt is made
    │           └── HostError       a raster's host does not answer, again and again      exit 75
    └── RetryLater          a rerun may heal it: scheduler lost, no worker, disk full      exit 75

Every message is one line: what, where, and what to do.
"""

import errno

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when there is no room left, which a rerun may find."""


class EomtBatchError(Exception):
    """The root of the errors that a user is meant to read."""

    exit_code = 1


class UsageError(EomtBatchError):
    """The command cannot be started as it stands; nothing was written."""

    exit_code = 2


class InputError(UsageError):
    """The raster is missing, unreadable, or not what the options say it is."""


class OutputError(UsageError):
    """The output place is taken by something else, or cannot be written."""


class ChangedError(UsageError):
    """The run that is there was started with other options."""


class RunError(EomtBatchError):
    """The run stopped; the same command continues it."""


class BlockError(RunError):
    """One block could not be read, inferred or rendered."""


class TransientError(BlockError):
    """One block could not be read or written for a reason that may pass."""


class HostError(TransientError):
    """A raster on another host could not be read; GDAL does not say whether the host is away or the file damaged."""

    exit_code = 75


class RetryLater(EomtBatchError):
    """Something outside gave way that a rerun may find healed."""

    exit_code = 75
