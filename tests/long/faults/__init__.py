"""Sessions on two replicas while processes are killed and paused, stores restarted, connections cut, disks filled.

Clients stream recordings whose answers are known, each chunk to a replica at random. They also send chunks twice,
early, late, under a used number, and in part. One client in four sends no numbers, and repeats no chunk. Meanwhile a
seeded script kills and pauses replicas and the store. Every reply is compared with that of an undisturbed server, byte
for byte. With ``--transport stream`` or ``streams``, the clients use WebSockets, cut them at any byte, and move between
the replicas. With ``v2`` and ``grpc`` they send sequences of the Open Inference Protocol, and with ``carried`` they
carry their sessions to replicas that share no store. With ``--store memory`` a session stays on its replica, and the
same script shows the losses without a store.
"""
