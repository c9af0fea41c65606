#!/bin/sh
# Installs those of the Debian packages named as arguments that are missing; silent when none is.
set -eu
missing=""
for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "m13: missing Debian packages:$missing" >&2
    echo "m13: run this as root, or: apt-get install$missing" >&2
    exit 1
fi
echo "==> Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of package names
apt-get install -y -qq --no-install-recommends $missing >/dev/null
