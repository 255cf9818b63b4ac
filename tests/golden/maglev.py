#!/usr/bin/env python3
"""Maglev tables for `lb-common/src/maglev.rs` to be compared with, from the paper's pseudo code:
every backend's whole permutation is written out first, then the table is populated. Prints
`slots weights table` lines; `tests/golden/maglev.txt` holds them."""

M64 = (1 << 64) - 1


def h(name, seed):
    state = 0xCBF29CE484222325 ^ seed
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & M64
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        state ^= state >> 33
        state = (state * factor) & M64
    return state ^ (state >> 33)


def table(names, weights, slots):
    permutation = {}
    for name in names:
        offset, skip = h(name, 1) % slots, h(name, 2) % (slots - 1) + 1
        permutation[name] = [(offset + turn * skip) % slots for turn in range(slots)]
    cursor = dict.fromkeys(names, 0)
    credit = dict.fromkeys(names, 0)
    entry = [-1] * slots
    filled = 0
    while True:
        for index, name in enumerate(names):
            if weights[index] == 0:
                continue
            credit[name] += weights[index]
            if credit[name] < max(weights):
                continue
            credit[name] -= max(weights)
            while entry[permutation[name][cursor[name]]] >= 0:
                cursor[name] += 1
            entry[permutation[name][cursor[name]]] = index
            filled += 1
            if filled == slots:
                return entry


print("# Made by maglev.py: slots, weights, table.")
for slots, weights in [
    (7, [1, 1, 1]),
    (13, [1]),
    (251, [1, 1, 1, 1, 1]),
    (251, [3, 0, 1, 7, 2]),
    (251, [256, 1, 128]),
    (1021, [1] * 20),
]:
    names = [f"10.0.{n // 256}.{n % 256}:80" for n in range(len(weights))]
    print(slots, ",".join(map(str, weights)), ",".join(map(str, table(names, weights, slots))))
