#!/bin/sh
# Runs in a test machine: waits until cloud-init and envboot have finished, keeps what the
# test reads afterwards in /var/lib/envboot-test, and ends the machine with a code of its own.
set -u
here=/usr/local/lib/envboot-test
out=/var/lib/envboot-test
mkdir -p "$out"

keep() {
    name=$1
    shift
    "$@" >"$out/$name" 2>&1
    echo $? >"$out/$name.code"
}

settled() {
    case "$(systemctl show -p ActiveState -p SubState -p Job "$1")" in
        *Job=[1-9]*) return 1 ;;
        *SubState=auto-restart*) test ! -s "$here/patient" ;;
        *ActiveState=activating* | *ActiveState=deactivating*) return 1 ;;
        *ActiveState=reloading* | *SubState=running*) return 1 ;;
    esac
}

keep cloud-init-wait cloud-init status --wait
for unit in envboot.service envboot-run.service envboot-publish.service; do
    until settled "$unit"; do sleep 0.2; done
done

keep is-active systemctl is-active envboot
keep run-is-active systemctl is-active envboot-run
keep publish-is-active systemctl is-active envboot-publish
keep status systemctl status --no-pager --full envboot
keep journal journalctl --no-pager -u envboot
keep explanation journalctl --no-pager -x -u envboot
keep run-journal journalctl --no-pager -o cat -u envboot-run
keep cloud-init-status cloud-init status --long
keep failed systemctl --no-pager --no-legend --failed
for command in "$here"/commands/*; do
    if [ -f "$command" ]; then keep "$(basename "$command")" sh "$command"; fi
done
journalctl --sync
systemctl exit 77
