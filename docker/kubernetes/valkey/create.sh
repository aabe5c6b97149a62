# Make a cluster of the nodes, with a replica for each primary, unless they are one.
set -eu
addresses=
for node in $NODES; do
  ip=$(getent hosts "${node%:*}" | head -n 1 | cut -d ' ' -f 1)
  [ "$(valkey-cli -h "$ip" -p "${node##*:}" ping)" = PONG ]
  # a cluster that exists, or a part of one: an operator decides
  if ! valkey-cli -h "$ip" -p "${node##*:}" cluster info | grep -q 'cluster_known_nodes:1'; then
    echo "$node is in a cluster: nothing is changed"
    exit 0
  fi
  addresses="$addresses $ip:${node##*:}"
done
valkey-cli --cluster create $addresses --cluster-replicas 1 --cluster-yes
