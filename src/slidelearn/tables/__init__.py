"""Tables: codes -> buckets of neurons -> the neurons that an example retrieves."""

from slidelearn.tables.buckets import Occupancy, Tables, build_tables, occupancy, update_tables
from slidelearn.tables.ranking import rank_buckets, rank_probed
from slidelearn.tables.retrieval import (
    STRATEGIES,
    Retrieved,
    Rule,
    Workspace,
    make_rule,
    make_workspace,
    retrieve,
    retrieve_one,
)

__all__ = [
    "STRATEGIES",
    "Occupancy",
    "Retrieved",
    "Rule",
    "Tables",
    "Workspace",
    "build_tables",
    "make_rule",
    "make_workspace",
    "occupancy",
    "rank_buckets",
    "rank_probed",
    "retrieve",
    "retrieve_one",
    "update_tables",
]
