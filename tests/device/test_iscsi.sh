#!/bin/bash
# limit: 600 seconds
# libiscsi's conformance tests over the kernel's iSCSI target on the loopback. tests/device/iscsi-expected.txt names those that do not pass, and why.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
expected=$tests_root/tests/device/iscsi-expected.txt
iqn=iqn.2003-01.org.lunkit:test
new_image disk 64M

step 'an iSCSI target'
output=$(target_batch <<END
/backstores/user:raw create iscsi 64M $image
/iscsi create $iqn
/iscsi/$iqn/tpg1/luns create /backstores/user:raw/iscsi
/iscsi/$iqn/tpg1 set attribute authentication=0 demo_mode_write_protect=0 generate_node_acls=1 cache_dynamic_acls=1
END
)
[[ -d $configfs/iscsi/$iqn/tpgt_1/lun/lun_0 ]] || fail "$output"
expect_match list 'iscsi .*iscsi' "$(lunkit list)"

# A line "suite test result" for each test, from the report of iscsi-test-cu: "  Test: NAME ...[SKIPPED] why", then "passed" or "FAILED".
results() {
    awk '
        function done() { if (test != "") print suite "." test, failed ? "fails" : skipped ? "skipped" : "passes"; test = "" }
        /^Suite: /              { done(); suite = $2; next }
        /^ *Test: /             { done(); test = $2; failed = skipped = 0 }
        test != "" && /\[SKIPPED\]/ { skipped = 1 }
        test != "" && /(^|\.\.\.)FAILED|^ *[0-9]+\. .*CU_ASSERT|\[FAILED\]/ { if (/CU_ASSERT|FAILED$/) failed = 1 }
        /^Run Summary/          { done(); exit }
    '
}

step 'the tests'
# To a terminal, it tells in time what it does.
script -qefc "timeout 540 iscsi-test-cu --dataloss --test=ALL --verbose iscsi://127.0.0.1/$iqn/0" /dev/null </dev/null | tr -d '\r' >"$work/report" || true
cp "$work/report" "$LUNKIT_LOGS/iscsi-report.txt"
results <"$work/report" | LC_ALL=C sort >"$work/results"
cp "$work/results" "$LUNKIT_LOGS/iscsi-results.txt"
echo "  $(cut -d ' ' -f 2 "$work/results" | sort | uniq -c | tr -s ' \n' ' ')"
total=$(wc -l <"$work/results")
grep -q '^Run Summary' "$work/report" || fail "it has not come to its end: $(tail -n 5 "$work/report")"
((total >= 220)) || fail "only $total tests have run"

step 'against what is expected'
# What is not listed has to pass. What is listed and passes has to be taken from the list.
sed 's/#.*//' "$expected" | awk 'NF { print $1, $2 }' | LC_ALL=C sort >"$work/listed"
sed -n 's/ varies$//p' "$work/listed" >"$work/varies"
grep -v ' varies$' "$work/listed" >"$work/expected"
grep -v ' passes$' "$work/results" | grep -vFf <(sed 's/$/ /' "$work/varies") >"$work/other"
if ! diff "$work/expected" "$work/other" >"$work/diff"; then
    sed 's/^</no more: /; s/^>/unexpected: /; /^[0-9]/d; /^---/d' "$work/diff"
    fail 'the results differ from tests/device/iscsi-expected.txt'
fi

step 'the end'
target_batch >/dev/null <<END
/iscsi delete $iqn
/backstores/user:raw delete iscsi
END
lunkit list | grep -q . && fail 'the LUN is still there'
expect_equal workers '' "$(worker_pids)"
