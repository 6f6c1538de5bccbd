#!/usr/bin/env bash
# A Slurm of one node with fake GPUs on this machine, for as long as COMMAND runs:
#   tools/slurm_here.sh COMMAND…
# Needs root, and Debian's slurm-wlm and munge. All daemons listen on 127.0.0.1 only.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "slurm_here.sh needs root" >&2; exit 2; }
for name in slurmctld slurmd munged; do
  PATH=$PATH:/usr/sbin command -v $name > /dev/null || { echo "no $name: apt-get install slurm-wlm munge" >&2; exit 2; }
done
export PATH=$PATH:/usr/sbin
here=$(mktemp -d /tmp/slurm_here.XXXXXX)
chmod 755 "$here"
pids=()
stop() {
  set +e
  scancel --user root 2> /dev/null
  for pid in "${pids[@]}"; do kill "$pid"; done 2> /dev/null
  pkill -9 -f "slurmstepd.*$here" 2> /dev/null
  wait 2> /dev/null
  rm -rf "$here"
}
trap stop EXIT

install -d -o munge -g munge -m 755 "$here/munge"
dd if=/dev/urandom of="$here/munge/key" bs=128 count=1 status=none
chown munge:munge "$here/munge/key" && chmod 400 "$here/munge/key"
setpriv --reuid munge --regid munge --clear-groups munged --foreground --num-threads 2 \
  --socket "$here/munge/socket" --key-file "$here/munge/key" --log-file "$here/munge/log" \
  --pid-file "$here/munge/pid" --seed-file "$here/munge/seed" > /dev/null 2>&1 &
pids+=($!)

# two ports that are free now: another Slurm may be here
read -r ctld_port slurmd_port < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
mkdir "$here/state" "$here/spool"
cores=$(nproc)
cat > "$here/slurm.conf" << CONF
ClusterName=here
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
AuthType=auth/munge
AuthInfo=socket=$here/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ReturnToService=2
MpiDefault=none
SchedulerParameters=batch_sched_delay=0,sched_interval=1
MinJobAge=10
KillWait=2
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=here NodeHostname=localhost NodeAddr=127.0.0.1 CPUs=$((cores * 4)) Gres=gpu:fake:4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
CONF
printf 'Name=gpu Type=fake Flags=nvidia_gpu_env File=/dev/tty[10-13]\n' > "$here/gres.conf"
export SLURM_CONF="$here/slurm.conf"
for _ in $(seq 50); do [ -S "$here/munge/socket" ] && break; sleep 0.1; done
slurmctld -D -c -f "$SLURM_CONF" > /dev/null 2>&1 &
pids+=($!)
slurmd -D -N here -f "$SLURM_CONF" > /dev/null 2>&1 &
pids+=($!)
for _ in $(seq 100); do sinfo -h -o %T 2> /dev/null | grep -q idle && ready=1 && break; sleep 0.2; done
if [ -z "${ready:-}" ]; then
  echo "Slurm did not come up:" >&2
  tail -n 20 "$here/slurmctld.log" "$here/slurmd.log" >&2
  exit 2
fi
"$@"
