# Tell this node the present addresses of the others, again and again. If all pods are restarted at once, all addresses
# that the nodes know are old. Only nodes that belong to the cluster are told: those that know more than themselves.
set -u
trap 'exit 0' TERM
port=${1:-6379}
while :; do
  nodes=$(valkey-cli -p "$port" cluster nodes 2> /dev/null)
  if [ "$(printf '%s\n' "$nodes" | grep -c .)" -gt 1 ]; then
    for node in $NODES; do
      ip=$(getent hosts "${node%:*}" | head -n 1 | cut -d ' ' -f 1)
      [ -n "$ip" ] || continue
      printf '%s\n' "$nodes" | grep " $ip:${node##*:}@" | grep -q -e myself -e ' connected' && continue
      valkey-cli -p "$port" cluster meet "$ip" "${node##*:}" > /dev/null
    done
  fi
  sleep "${INTERVAL_S:-10}" &
  wait $!
done
