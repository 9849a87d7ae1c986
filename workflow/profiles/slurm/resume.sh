#!/usr/bin/env bash
# Start again where Snakemake died and left its SLURM jobs running: cancel this folder's jobs, wait until SLURM has ended
# the last of them, unlock, and run. Finished files stay; a job cut off goes on from its checkpoint or last batch.
#   workflow/profiles/slurm/resume.sh ARGUMENTS     # those of the earlier snakemake, from the same folder
set -euo pipefail
here=$(pwd -P)
type squeue scancel snakemake >/dev/null # else nothing is cancelled

# An earlier Snakemake that still lives would submit the cancelled jobs again. (Only this machine's can be seen.)
for process in /proc/[0-9]*; do
  [ "$(readlink "$process/cwd" 2>/dev/null)" = "$here" ] || continue
  grep -qzE '(^|/)snakemake$' "$process/cmdline" 2>/dev/null || continue
  grep -qzxe --target-jobs "$process/cmdline" 2>/dev/null && continue # a job's own, where jobs run on this machine
  echo "resume.sh: Snakemake still runs in $here as process ${process#/proc/}; end it first (Ctrl-C)" >&2
  exit 1
done

# The executor names its jobs by the run's UUID and starts them in Snakemake's folder.
uuid='[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
while true; do
  jobs=$(squeue --me --noheader --format='%A|%j|%Z') # pending, running and completing; no answer ends this script
  left=()
  while IFS='|' read -r id name folder; do
    if [[ $folder == "$here" && $name =~ $uuid ]]; then left+=("$id"); fi
  done <<< "$jobs"
  [ ${#left[@]} -gt 0 ] || break
  echo "resume.sh: ending jobs of the earlier run: ${left[*]}"
  scancel "${left[@]}" || true # one may have ended meanwhile
  sleep 2
done
snakemake --unlock "$@"
exec snakemake "$@"
