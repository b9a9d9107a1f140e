"""What the report shows: guests are booted, given console commands, and their answers are read."""

import os
import random
import re
import select
import subprocess
import time

import guest

PROMPT = b"paean> "
SOAK_MEMORY = "1G"
SOAK_FILES = 48  # alive at once, about half of that memory
MAP_ZONE = re.compile(r"^(\w+) (\d+) MB, a cell is (\d+) kB$")
MAP_ROW = re.compile(r"^ *([0-9a-f]+) \|(.*)\|$")
LEDGER_TOTALS = re.compile(r"^Lowmem: present (\d+) kB, managed (\d+) kB, free (\d+) kB$", re.MULTILINE)
LEDGER_LINE = re.compile(r"^  (\S.*?) +(\d+) kB$")
KMAP_LINE = re.compile(r"^(?:  )?(in use|cached|clean|waiting|hits|misses|dropped) +(\d+) ", re.MULTILINE)
KMAP_STATES = ("in use", "waiting", "cached", "clean")
BUDDY_LINE = re.compile(r"^Node 0, zone +(\w+)((?: +\d+)+)", re.MULTILINE)


class Trouble(Exception):
    """A guest that did not answer as it should; the text says how."""


class Console:
    """A guest at its prompt. A command is sent when the prompt is there: much that is typed ahead would get lost."""

    def __init__(self, kernel, mem, timeout):
        vm = guest.Guest(kernel=kernel, mem=mem, cpus="2", qemu=guest.env("QEMU", "qemu-system-x86_64"))
        guest.need_program(vm.qemu)
        self.mem, self.end = mem, time.monotonic() + timeout
        self.process = subprocess.Popen(vm.command("-serial", "stdio"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, start_new_session=True)

    def until_prompt(self):
        """What is printed before the next prompt."""
        output = b""
        while not output.endswith(PROMPT):
            ready = select.select([self.process.stdout], [], [], max(self.end - time.monotonic(), 0))[0]
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                last = output.decode("utf-8", "replace")[-200:]
                raise Trouble(f"the guest with {self.mem} " + ("ended" if ready else "is too slow") + f": {last}")
            output += data
        return output[:-len(PROMPT)].decode("utf-8", "replace").replace("\r", "")

    def answer(self, command):
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()
        return self.until_prompt().partition("\n")[2]  # the first line is the echo of the command


def ask(kernel, mem, commands, timeout):
    """[answer] to each of the console commands, from one guest."""
    console = Console(kernel, mem, timeout)
    try:
        console.until_prompt()
        return [console.answer(command) for command in commands]
    finally:
        guest.stop(console.process)


def read_map(text):
    """([(zone, MB, kB of a cell, [(address, cells)])], {letter: what it stands for})."""
    zones, legend = [], {}
    for line in text.splitlines():
        if found := MAP_ZONE.match(line):
            zones.append((found[1], int(found[2]), int(found[3]), []))
        elif zones and (found := MAP_ROW.match(line)):
            zones[-1][3].append((int(found[1], 16), found[2]))
        elif zones and not line.startswith("small"):
            pairs = (re.match(r"^(\S| ) (\S.*)$", pair) for pair in line.replace(". free,", ". free, ").split(", "))
            legend.update({pair[1]: pair[2] for pair in pairs if pair})
    if not zones or not legend:
        raise Trouble("the map has no zones")
    return zones, legend


def read_ledger(text):
    """[(name, kB)] from the image to what is free: all of lowmem that there is."""
    totals = LEDGER_TOTALS.search(text)
    if not totals:
        raise Trouble("lowmem has no totals")
    present, managed, free = map(int, totals.groups())
    rows, reserved = [], 0
    for line in text[totals.end():].splitlines():
        if line.startswith("sum "):
            break
        found = LEDGER_LINE.match(line)
        if found and not found[1].endswith("in all"):
            rows.append((found[1], int(found[2])))
        elif found and found[1] == "reserved in all":
            reserved = int(found[2])
    if sum(kib for _, kib in rows) + free != present or reserved + managed != present:
        raise Trouble(f"the ledger's rows and what is free are not the {present} kB that are there")
    return [*rows, ("free", free)]


def read_kmap(text):
    """({state: slots}, {event: how often})"""
    found = {name: int(count) for name, count in KMAP_LINE.findall(text)}
    if len(found) != 7:
        raise Trouble("kmapinfo does not show the four states of a slot, hits, misses, and what was dropped")
    return ({state: found[state] for state in KMAP_STATES},
            {event: found[event] for event in found if event not in KMAP_STATES})


def read_buddy(text):
    """{zone: [free blocks of order 0, 1, ...]}"""
    zones = {zone: [int(count) for count in counts.split()] for zone, counts in BUDDY_LINE.findall(text)}
    if not zones:
        raise Trouble("buddyinfo shows no zone")
    return zones


def memory(kernel, mem, timeout):
    """One machine after boot and a little use: {map, legend, ledger, kmap}."""
    answers = ask(kernel, mem, ["fill /report 33554432", "bench kmap_miss,kmap_hit", "map", "lowmem", "kmapinfo"],
                  timeout)
    zones, legend = read_map(answers[2])
    return {"mem": mem, "map": zones, "legend": legend, "ledger": read_ledger(answers[3]),
            "kmap": read_kmap(answers[4])}


def scattered(blocks, order):
    """Which part of the free pages is in blocks smaller than this order."""
    free = sum(count << k for k, count in enumerate(blocks))
    small = sum(count << k for k, count in enumerate(blocks[:order]))
    return small / free if free else 0.0


def soak(kernel, rounds, timeout):
    """[{zone: blocks by order}] after each round, in which files of 4 kB to 16 MB come and go: the same each time."""
    dice = random.Random(8)
    commands, alive, made = ["buddyinfo"], [], 0
    for _ in range(rounds):
        for _ in range(6):
            if len(alive) == SOAK_FILES:
                commands.append(f"rm {alive.pop(dice.randrange(len(alive)))}")
            alive.append(f"/s{made}")
            made += 1
            commands.append(f"fill {alive[-1]} {4096 << dice.randrange(13)}")
        commands.append("buddyinfo")
    answers = ask(kernel, SOAK_MEMORY, commands, timeout)
    return [read_buddy(answer) for command, answer in zip(commands, answers) if command == "buddyinfo"]
