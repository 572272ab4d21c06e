"""Where the tasks run, how they are handed out, and what happens to those that fail.

connect     a Dask cluster in this process, worker processes on this machine, or a scheduler elsewhere
flight      the client loop: a window of tasks under way, records as they land
attempts    how often a task is tried
pulse       what a task and its driver hear of each other meanwhile
"""

from pipeline.cluster.connection import connect, together
from pipeline.cluster.flight import Cluster

__all__ = ["Cluster", "connect", "together"]
