# shellcheck shell=sh
# Takes the lab in the folder $1 down, the last mounted first.
lab=$1
# Its number may be another's by now.
if pid=$(cat "$lab/cloud.pid" 2>/dev/null) && grep -q cloud.py "/proc/$pid/cmdline" 2>/dev/null; then
  kill "$pid"
fi
mounted() { awk -v lab="$lab/" 'index($5, lab) == 1 { print $5 }' /proc/self/mountinfo; }

# All at once: the thaw of a filesystem writes to the one below, which may be frozen itself.
for point in $(mounted); do
  fsfreeze --unfreeze "$point" 2>/dev/null &
done
wait
tries=0
while [ -n "$(mounted)" ]; do
  for point in $(mounted | tac); do
    umount "$point" || :
  done
  tries=$((tries + 1))
  [ "$tries" -lt 50 ] || exit 1
  [ -z "$(mounted)" ] || sleep 0.2
done
rm -rf "$lab"
