# Ready: the node answers, and as a replica it has its primary's data. So a rolling update waits for each replica.
set -eu
port=${1:-6379}
[ "$(valkey-cli -p "$port" ping)" = PONG ]
replication=$(valkey-cli -p "$port" info replication)
case "$replication" in
  *role:slave*) case "$replication" in *master_link_status:up*) ;; *) exit 1 ;; esac ;;
esac
