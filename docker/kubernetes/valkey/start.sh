# Start a node: the password in a file that only it reads, and the pod's present address for the others.
set -eu
umask 077
printf 'requirepass %s\nprimaryauth %s\n' "$REDISCLI_AUTH" "$REDISCLI_AUTH" > /run/valkey/auth.conf
exec valkey-server /etc/valkey/valkey.conf --include /run/valkey/auth.conf --cluster-announce-ip "$POD_IP"
