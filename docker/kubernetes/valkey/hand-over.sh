# Before a node ends: if it is a primary, a replica of it takes over without a loss.
set -u
port=${1:-6379}
valkey-cli -p "$port" role | grep -q '^master$' || exit 0
replica=$(valkey-cli -p "$port" cluster nodes | grep " $(valkey-cli -p "$port" cluster myid) " | grep slave | grep -v fail |
  head -n 1 | cut -d ' ' -f 2 | cut -d @ -f 1)
[ -n "$replica" ] || exit 0
valkey-cli -h "${replica%:*}" -p "${replica##*:}" cluster failover
tries=0
while valkey-cli -p "$port" role | grep -q '^master$' && [ "$tries" -lt 100 ]; do
  tries=$((tries + 1))
  sleep 0.1
done
