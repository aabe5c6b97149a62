"""Stores in Valkey or Redis: one server (``store``), or a cluster (``cluster``).

Each session is one string, its revision in front of its record. The server removes records on its own when their time
is over. Both stores speak to each server through a ``node``, and a ``script`` on it compares and sets.
"""

from service.store.redis.cluster import ClusterStore as ClusterStore
from service.store.redis.script import PREFIX as PREFIX
from service.store.redis.slots import read_address as read_address
from service.store.redis.store import RedisStore as RedisStore
