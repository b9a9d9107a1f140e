"""gdb helpers for Paean; scripts/debug and scripts/run --gdb load them.

  pae-walk VA     the page walk of a virtual address from CR3, all 64 bits of every entry, read through physical memory
  page PFN        the page word of a frame, decoded
  zones           the zones with their free pages

They ask QEMU's monitor for physical memory, so they work before paging is on and with broken page tables.
"""

import re

import gdb

PRESENT, WRITE, USER, ACCESSED, DIRTY, LARGE, GLOBAL, NX = (1 << bit for bit in (0, 1, 2, 5, 6, 7, 8, 63))
FRAME = 0x000ffffffffff000
LARGE_FRAME = 0x000fffffffe00000
FLAG_NAMES = ((PRESENT, "P"), (WRITE, "W"), (USER, "U"), (1 << 3, "PWT"), (1 << 4, "PCD"), (ACCESSED, "A"),
              (DIRTY, "D"), (LARGE, "PS"), (GLOBAL, "G"), (NX, "NX"))


def read_physical(address):
    """One 64-bit word of physical memory."""
    text = gdb.execute(f"monitor xp /2wx {address:#x}", to_string=True)
    words = re.findall(r"0x([0-9a-fA-F]{8})\b", text.split(":", 1)[-1])
    if len(words) < 2:
        raise gdb.GdbError(f"QEMU did not say what is at {address:#x}: {text.strip()}")
    return int(words[0], 16) | int(words[1], 16) << 32


def control_register(name):
    """cr0, cr3 or cr4; the monitor knows them even where the stub does not pass them on."""
    text = gdb.execute("monitor info registers", to_string=True)
    match = re.search(rf"\b{name.upper()}=([0-9a-fA-F]+)", text)
    if not match:
        raise gdb.GdbError(f"QEMU does not say what {name} is")
    return int(match[1], 16)


def flags(entry):
    return " ".join(name for bit, name in FLAG_NAMES if entry & bit) or "-"


def evaluate(expression):
    """A number from C++; addresses of symbols and the like included."""
    return int(gdb.parse_and_eval(expression))


def show(level, index, at, entry):
    print(f"  {level}[{index:3}] at {at:#012x}: {entry:#018x}  {flags(entry)}")
    return bool(entry & PRESENT)


class PaeWalk(gdb.Command):
    """pae-walk VA: the page walk of a virtual address from CR3, through physical memory."""

    def __init__(self):
        super().__init__("pae-walk", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError("pae-walk VA")
        address = evaluate(argument) & 0xffffffff
        cr0, cr3, cr4 = (control_register(name) for name in ("cr0", "cr3", "cr4"))
        if not cr0 & 1 << 31 or not cr4 & 1 << 5:
            raise gdb.GdbError(f"PAE paging is off (CR0 {cr0:#x}, CR4 {cr4:#x})")
        print(f"{address:#010x}, CR3 {cr3:#x}")
        at = (cr3 & 0xffffffe0) + (address >> 30) * 8
        entry = read_physical(at)
        if not show("PDPT", address >> 30, at, entry):
            return print("  not mapped: 1 GiB without a directory")
        index = address >> 21 & 511
        at = (entry & FRAME) + index * 8
        entry = read_physical(at)
        if not show("PD  ", index, at, entry):
            return print("  not mapped: 2 MiB without a table")
        if entry & LARGE:
            return print(f"  2 MiB page: {address:#x} is physical {(entry & LARGE_FRAME) + (address & 0x1fffff):#x}")
        index = address >> 12 & 511
        at = (entry & FRAME) + index * 8
        entry = read_physical(at)
        if not show("PT  ", index, at, entry):
            return print("  not mapped")
        return print(f"  {address:#x} is physical {(entry & FRAME) + (address & 0xfff):#x}")


def enumerators(type_name):
    """{value: name} of an enum of ours, from the debug information, so that it cannot drift from the code."""
    return {field.enumval: field.name.rsplit("::", 1)[-1] for field in gdb.lookup_type(type_name).fields()}


class PageWord(gdb.Command):
    """page PFN: the page word of a frame, decoded."""

    def __init__(self):
        super().__init__("page", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError("page PFN")
        frame, words = evaluate(argument), evaluate("(unsigned long)paean::frame_words")
        limit = evaluate("paean::frame_words_limit.value_")
        if not words:
            raise gdb.GdbError("there are no page words yet")
        if frame >= limit:
            raise gdb.GdbError(f"frame {frame:#x} is beyond the last one with a page word, {limit - 1:#x}")
        word = evaluate(f"*(unsigned int *){words + 4 * frame:#x}")
        number = word >> 28 & 7
        kind = enumerators("paean::PageType").get(number, f"type {number}")
        text = f"frame {frame:#x} (physical {frame << 12:#x}): word {word:#010x}, {kind}"
        if kind == "Block":
            owner = enumerators("paean::Owner").get(word & 63, f"owner {word & 63}")
            text += f", order {word >> 24 & 15}, owner {owner}, {word >> 8 & 0xffff} references"
            if word >> 31:
                text += ", has been mapped by kmap"
        elif kind == "Reserved":
            text += f" for {enumerators('paean::BootReason').get(word & 0x0fffffff, word & 0x0fffffff)}"
        elif word & 0x0fffffff:
            text += f", detail {word & 0x0fffffff:#x}"
        print(text)


def find_zones():
    """The array of zones, whatever anonymous namespace it stands in."""
    for name in ("paean::zones", "paean::(anonymous namespace)::zones", "zones"):
        symbol = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
        if symbol is not None:
            return symbol.value()
    raise gdb.GdbError("this kernel has no symbol for its zones")


class Zones(gdb.Command):
    """zones: frames, sizes and free blocks of each zone. What the per-CPU stacks hold is not counted as free here."""

    def __init__(self):
        super().__init__("zones", gdb.COMMAND_DATA, gdb.COMPLETE_NONE)

    def invoke(self, argument, from_tty):
        zones = find_zones()
        low, high = zones.type.range()
        for index in range(low, high + 1):
            zone = zones[index]
            start, end = int(zone["start"]["value_"]), int(zone["end"]["value_"])
            present, managed, lowest = (int(zone[key]["count_"]) for key in ("present", "managed", "min"))
            name = enumerators("paean::ZoneId").get(int(zone["id"]), "?")
            print(f"{name:8} frames {start:#9x}..{end:#9x}  present {present:9} managed {managed:9} "
                  f"free {int(zone['buddy']['free_pages_']):9} min {lowest}")
            blocks = zone["buddy"]["blocks_"]
            orders = range(blocks.type.range()[0], blocks.type.range()[1] + 1)
            print("         blocks by order: " + " ".join(str(int(blocks[order])) for order in orders))


PaeWalk()
PageWord()
Zones()
