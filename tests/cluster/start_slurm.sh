#!/usr/bin/env bash
# SLURM on this machine alone, for tests: munged, slurmctld and slurmd on loopback, partitions cpu and gpu, one fake GPU.
#   tests/cluster/start_slurm.sh FOLDER     # root on Debian; needs tests/install_debian.sh
#   tests/cluster/stop_slurm.sh FOLDER      # cancels what runs and stops the three; FOLDER keeps their logs
set -euo pipefail
D=$(realpath -m "${1:?usage: start_slurm.sh FOLDER}")
[ "$(id -u)" = 0 ] || { echo "start_slurm.sh: slurmd and munged start jobs for others, which takes root" >&2; exit 1; }
if [ -e /etc/slurm/slurm.conf ]; then
  echo "start_slurm.sh: /etc/slurm/slurm.conf is there: a SLURM is set up here, or stop_slurm.sh was not run" >&2
  exit 1
fi
type slurmctld slurmd munged sbatch >/dev/null || "$(dirname "$0")/../install_debian.sh"
mkdir -p "$D"/{etc,munge,log,run,dev,spool/ctld,spool/d} /etc/slurm
chmod 755 "$D" "$D"/*
HOST=$(hostname -s)
CPUS=$(($(nproc) > 2 ? $(nproc) : 2)) # two at least, or nothing but the GPU's count would keep two jobs apart
MEMORY=$(awk '/MemTotal/ {print int($2 / 1024) - 512}' /proc/meminfo)
[ -s "$D/munge/key" ] || (umask 077 && head -c 1024 /dev/urandom > "$D/munge/key")
# slurmd counts a GPU only where a device file stands for it: another /dev/null does
[ -c "$D/dev/nvidia0" ] || mknod -m 666 "$D/dev/nvidia0" c 1 3
echo "NodeName=$HOST Name=gpu File=$D/dev/nvidia0" > "$D/etc/gres.conf"
echo "CgroupPlugin=cgroup/v1" > "$D/etc/cgroup.conf" # or slurmd looks for a version that it cannot tell without systemd
cat > "$D/etc/slurm.conf" <<C
ClusterName=toy
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$D/run/munge.sock
StateSaveLocation=$D/spool/ctld
SlurmdSpoolDir=$D/spool/d
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.log
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
PropagateResourceLimits=NONE
# no cgroups: processes are found by their parents, and a job above its memory is killed by who counts it, each second
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
KillWait=10
# no accounting: finished jobs are asked of slurmctld, which remembers them for a day
AccountingStorageType=accounting_storage/none
MinJobAge=86400
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,sched_min_interval=100000
GresTypes=gpu
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEMORY Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=$HOST Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=$HOST MaxTime=INFINITE State=UP
C
# at its default place, since the executor takes SLURM_CONF out of a job's environment
ln -s "$D/etc/slurm.conf" /etc/slurm/slurm.conf
munged --force --key-file="$D/munge/key" --seed-file="$D/munge/seed" --socket="$D/run/munge.sock" \
  --pid-file="$D/run/munged.pid" --log-file="$D/log/munged.log"
slurmctld -f "$D/etc/slurm.conf" # gres.conf is looked for beside the file as it is named
slurmd -f "$D/etc/slurm.conf" -N "$HOST"
for _ in $(seq 60); do
  if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then
    sinfo --Node --format='%N %P %T %c %m %G'
    exit 0
  fi
  sleep 0.5
done
echo "start_slurm.sh: the node did not come up in 30 s; see $D/log" >&2
exit 1
