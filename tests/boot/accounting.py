"""Whether the numbers that a booted guest prints agree with the model and with each other."""

import model
import proc_text
from harness import check
from qemu import Guest


def check_zones(log: str, zones: dict, usable: list[model.Range]) -> None:
    """Present pages a zone against the model. A log that was told to be quiet does not name the lowmem limit."""
    normal = zones.get("normal", {"start_pfn": 0, "spanned": 0})
    end = proc_text.lowmem_end(log) if "Zone ranges:" in log else \
        max(model.DMA_END, (normal["start_pfn"] + normal["spanned"]) * model.PAGE)
    expected = model.zone_pages(usable, end)
    for name, pages in expected.items():
        present = zones.get(name, {"present": 0})["present"]
        check(present == pages, f"zone {name}: {present} pages present, the model says {pages}")
    for name, zone in zones.items():
        check(name in expected or zone["present"] == 0, f"unknown zone {name}")
        check(zone["managed"] <= zone["present"], f"zone {name}: more pages managed than present")
        # The pages in CPUs' stacks are free pages, and counted as such.
        check(zone["free"] <= zone["managed"], f"zone {name}: more pages free than managed")
        check(zone["pcp"] <= zone["free"], f"zone {name}: more pages in CPUs' stacks than free")


def check_system_ram(text: str, usable: list[model.Range]) -> None:
    """iomem's System RAM lines against the model. Lines that touch are one range."""
    shown = model.join(model.shrink(proc_text.system_ram(text)))
    check(shown == usable, f"iomem shows System RAM {hex_ranges(shown)}, the model {hex_ranges(usable)}")


def check_meminfo(memory: dict[str, int], zones: dict) -> None:
    """meminfo against zoneinfo. Free pages move between two commands, so only the totals are exact."""
    managed = {name: zone["managed"] * 4 for name, zone in zones.items()}
    check(memory["MemTotal"] == sum(managed.values()),
          f"MemTotal {memory['MemTotal']} kB, zones manage {sum(managed.values())} kB")
    low = managed.get("dma", 0) + managed.get("normal", 0)
    check(memory["LowTotal"] == low, f"LowTotal {memory['LowTotal']} kB, DMA and Normal manage {low} kB")
    check(memory["LowTotal"] + memory["HighTotal"] == memory["MemTotal"], "LowTotal + HighTotal is not MemTotal")
    check(memory["LowFree"] + memory["HighFree"] == memory["MemFree"], "LowFree + HighFree is not MemFree")
    check(memory["MemFree"] <= memory["MemTotal"], "more memory free than there is")
    check(memory["SReclaimable"] + memory["SUnreclaim"] == memory["Slab"], "SReclaimable + SUnreclaim is not Slab")
    # After boot there is a root directory, whose inode can be given back one day.
    check(0 < memory["SReclaimable"] == memory["KReclaimable"], f"{memory['SReclaimable']} kB of slabs reclaimable")


def check_all(guest: Guest, log: str, accepted: list[list[model.Entry]], phys_bits: int = 40) -> dict[str, int]:
    """Everything above for a guest at its prompt; `accepted` are the maps it may have. Returns its meminfo."""
    zones = proc_text.zoneinfo(guest.command("zoneinfo"))
    ram = guest.command("iomem")
    memory = proc_text.meminfo(guest.command("meminfo"))
    candidates = [model.usable_ranges(entries, phys_bits) for entries in accepted]
    shown = model.join(model.shrink(proc_text.system_ram(ram)))
    usable = shown if shown in candidates else candidates[0]
    check_system_ram(ram, usable)
    check_zones(log, zones, usable)
    check_meminfo(memory, zones)
    return memory


def hex_ranges(ranges: list[model.Range]) -> str:
    text = " ".join(f"{begin:x}-{end:x}" for begin, end in ranges[:12])
    return text + (f" ... ({len(ranges)} ranges)" if len(ranges) > 12 else "") or "nothing"
