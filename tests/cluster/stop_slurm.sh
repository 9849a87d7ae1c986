#!/usr/bin/env bash
# Stop what start_slurm.sh started, and the jobs that still run.  tests/cluster/stop_slurm.sh FOLDER
set -euo pipefail
D=$(realpath "${1:?usage: stop_slurm.sh FOLDER}")
[ "$(readlink /etc/slurm/slurm.conf)" = "$D/etc/slurm.conf" ] || { echo "stop_slurm.sh: not started in $D" >&2; exit 1; }
scancel --me 2>/dev/null || true
for _ in $(seq 60); do
  [ -n "$(squeue --noheader 2>/dev/null)" ] || break
  sleep 0.5
done
for daemon in slurmd slurmctld munged; do
  pid=$(cat "$D/run/$daemon.pid" 2>/dev/null) || continue
  kill "$pid" 2>/dev/null || continue
  for _ in $(seq 40); do
    [ -d "/proc/$pid" ] || break
    sleep 0.25
  done
done
rm /etc/slurm/slurm.conf
