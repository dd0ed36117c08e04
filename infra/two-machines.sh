#!/bin/bash
# infra/two-machines.sh: tries README's section "Two machines" as it is written, on one machine: two network namespaces with
# an address each and nothing but the other to talk to. The commands of the first and the second block are started in turn,
# each when the one before is ready; those of the third are run on the first machine, their output shown. Everything that it
# has started ends with it. Needs root and iproute2.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
one=chorus-one-$$ two=chorus-two-$$ # names of this run alone
folder=$(mktemp -d)
started=()

finish() {
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    kill -TERM "${started[i]}" 2>/dev/null || true
    wait "${started[i]}" 2>/dev/null || true
  done
  ip netns del "$one" 2>/dev/null || true
  ip netns del "$two" 2>/dev/null || true
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# The commands of the section's n-th block, a line each, without their comments.
block() {
  awk -v wanted="$1" '
    /^## / { inside = ($0 == "## Two machines") }
    inside && /^```/ { if (open) open = 0; else { open = 1; n++ }; next }
    inside && open && n == wanted { sub(/ +#.*/, ""); if ($0 != "") print }
  ' "$root/README.md" | sed "s|^npx chorus |node $root/bin/chorus.js |"
}

# Starts a command on a machine, and waits until it says that it is ready; one that ends before has said why.
start() {
  local machine=$1 command=$2 log="$folder/log.${#started[@]}"
  ip netns exec "$machine" $command >"$log" 2>&1 &
  started+=($!)
  until grep -qE "Server is ready|has joined|serves" "$log"; do
    kill -0 "${started[-1]}" 2>/dev/null || { echo "$command:" >&2; cat "$log" >&2; exit 1; }
    sleep 0.05
  done
}

ip netns add "$one"
ip netns add "$two"
ip -n "$one" link add eth0 type veth peer name eth0 netns "$two"
ip -n "$one" addr add 10.77.0.1/24 dev eth0
ip -n "$two" addr add 10.77.0.2/24 dev eth0
for machine in "$one" "$two"; do
  ip -n "$machine" link set lo up
  ip -n "$machine" link set eth0 up
done

cp -r "$root/models" "$folder"
cd "$folder" # where keys/ is made, and what the server stores
while read -r command; do
  case $command in
    export*) PWD=$root eval "$command" ;;
    *" keys "*) $command ;;
    *) start "$one" "$command" ;;
  esac
done < <(block 1)
while read -r command; do start "$two" "$command"; done < <(block 2)
while read -r command; do
  echo "\$ $command"
  ip netns exec "$one" bash -c "$command"
done < <(block 3)
