#!/bin/bash
# limit: 300 seconds
# 64 LUNs at once: all attached together, all with I/O, all taken away; what they cost is printed.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
count=64

step "attaching $count at once"
start=$SECONDS
pids=()
for ((i = 0; i < count; i++)); do
    truncate -s 8M "$work/disk$i"
    lunkit attach --name "many$i" "$work/disk$i" >"$work/out$i" 2>&1 &
    pids+=($!)
done
for i in "${!pids[@]}"; do
    wait "${pids[i]}" || fail "many$i: $(<"$work/out$i")"
done
echo "  attached in $((SECONDS - start)) s"
expect_equal LUNs $count "$(lun_count)"
mapfile -t devices < <(cat "$work"/out* | grep '^/dev/sd' | sort -u)
expect_equal 'different devices' $count "${#devices[@]}"

step 'what they cost'
mapfile -t workers < <(worker_pids)
expect_equal workers $count "${#workers[@]}"
kb=0 threads=0
for pid in "${workers[@]}" "$(<"$daemon_pid_file")"; do
    kb=$((kb + $(awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup")))
    threads=$((threads + $(awk '/^Threads:/ { print $2 }' "/proc/$pid/status")))
done
echo "  $threads threads, $((kb / 1024)) MiB (proportional), lunkitd $(awk '/^VmRSS:/ { print $2 }' "/proc/$(<"$daemon_pid_file")/status") KiB"

step 'idle workers use no processor'
cpu_ticks() {
    local pid sum=0 fields
    for pid in "${workers[@]}"; do
        read -ra fields < <(sed 's/.*) //' "/proc/$pid/stat")
        sum=$((sum + fields[11] + fields[12]))
    done
    echo $sum
}
# what attaching has begun, threads of the kernel's too, ends by itself
sleep 8
before=$(cpu_ticks)
sleep 3
used=$(($(cpu_ticks) - before))
echo "  $used ticks of $(getconf CLK_TCK) a second in 3 seconds"
((used <= 20)) || fail 'idle workers are busy'

step 'I/O on all'
jobs=()
for dev in "${devices[@]}"; do
    jobs+=(--name="${dev##*/}" --filename="$dev")
done
start=$SECONDS
fio --direct=1 --ioengine=libaio --iodepth=8 --rw=randrw --bs=4k --size=512k --verify=crc32c --verify_fatal=1 --eta=never --thread \
    --group_reporting --output="$work/fio.log" "${jobs[@]}" || fail "fio: $(tail -n 30 "$work/fio.log")"
echo "  $((SECONDS - start)) s"

step 'listing and detaching all'
start=$SECONDS
expect_equal 'lines of list' $((count + 1)) "$(lunkit list | wc -l)"
pids=()
for ((i = 0; i < count; i++)); do
    lunkit detach "many$i" >"$work/out$i" 2>&1 &
    pids+=($!)
done
for i in "${!pids[@]}"; do
    wait "${pids[i]}" || fail "many$i: $(<"$work/out$i")"
done
echo "  detached in $((SECONDS - start)) s"
expect_equal LUNs 0 "$(lun_count)"
expect_equal workers '' "$(worker_pids)"
