#!/bin/bash
# Train with two hosts on this machine: two network namespaces, joined by a virtual cable, that share nothing else.
#
#     tools/two_hosts.sh FOLDER_A FOLDER_B MIXTURE SEED
#
# Each folder is a repository whose mixtures are made, with trainer.nodes: 2. The first host publishes the model, in
# FOLDER_A; FOLDER_B holds none at the end. Needs root and iproute2. `python` must be the environment's.
set -euo pipefail

if (($# != 4)); then
    echo "usage: $0 FOLDER_A FOLDER_B MIXTURE SEED" >&2
    exit 2
fi
folders=("$1" "$2")
mixture=$3
seed=$4
name=dx$$
port=29500
children=()

clean() {
    ((${#children[@]} == 0)) || kill "${children[@]}" 2> /dev/null || true
    for host in 0 1; do
        ip netns del "$name-$host" 2> /dev/null || true # its end of the cable goes with it
    done
}
trap clean EXIT

for host in 0 1; do
    ip netns add "$name-$host"
    ip -n "$name-$host" link set lo up
done
ip -n "$name-0" link add cable0 type veth peer name cable1 netns "$name-1"
for host in 0 1; do
    ip -n "$name-$host" addr add "10.77.0.$((host + 1))/24" dev "cable$host"
    ip -n "$name-$host" link set "cable$host" up
done

for host in 0 1; do
    (
        cd "${folders[host]}"
        GLOO_SOCKET_IFNAME=cable$host exec ip netns exec "$name-$host" python -m torch.distributed.run \
            --nnodes 2 --nproc-per-node 1 --node-rank "$host" --master-addr 10.77.0.1 --master-port "$port" \
            -m stages.train "$mixture" "$seed"
    ) &
    children+=($!)
done

code=0
for child in "${children[@]}"; do
    wait "$child" || code=$?
done
exit "$code"
