#!/usr/bin/env bash
# Two Ray nodes on this machine, for as long as COMMAND runs:
#   tools/ray_two_nodes.sh COMMAND…
# COMMAND finds the cluster at $RAY_HERE and the process of the second node in $RAY_SECOND_NODE.
# Needs root: it all happens in a network namespace of its own, since Ray listens on every address.
set -euo pipefail
if [ -z "${RAY_HERE:-}" ]; then
  [ "$(id -u)" = 0 ] || { echo "ray_two_nodes.sh needs root" >&2; exit 2; }
  RAY_HERE=127.0.0.1:6399 exec unshare --net --fork "$0" "$@"
fi
command -v ray > /dev/null || { echo "no ray: pip install 'evalkit[ray]'" >&2; exit 2; }
ip link set lo up
here=$(mktemp -d /tmp/ray_two_nodes.XXXXXX)
export RAY_DISABLE_IMPORT_WARNING=1 RAY_USAGE_STATS_ENABLED=0
raylets() { ip netns identify $$ > /dev/null 2>&1; pgrep -f "raylet/raylet.*--temp_dir=$here" || true; }
trap 'ray stop --force > /dev/null 2>&1; rm -rf "$here"' EXIT
ray start --head --node-ip-address=127.0.0.1 --port=6399 --num-cpus=2 --include-dashboard=false \
  --temp-dir="$here" > "$here/head.log" 2>&1 || { cat "$here/head.log" >&2; exit 2; }
first=$(raylets)
ray start --address=127.0.0.1:6399 --num-cpus=2 > "$here/second.log" 2>&1 || { cat "$here/second.log" >&2; exit 2; }
RAY_SECOND_NODE=$(raylets | grep -vxF "$first" | head -n 1)
export RAY_SECOND_NODE
"$@"
