#!/usr/bin/python3
"""ext2 between two systems: mke2fs makes the image, the guest reads and changes it, e2fsck and we judge it.

In 64 GB the pages of files lie above 4 GB, but for those on IDE, which come from below as long as there are any. After
`diskpages anywhere` IDE's are above too, and go through bounce memory; `bounceinfo` says what did.

Power cuts: QEMU logs every write and flush (blklogwrites). At the nth entry the power goes: what was written before the
last flush is on the medium, and of the writes behind it any subset. e2fsck must be able to mend that, must have nothing
to mend the second time, and what `sync` had put on the medium must be there.
"""

import os
import random
import re
import shutil
import subprocess
import tempfile

import harness
from harness import Case, check
from write_log import LOG_FLUSH, WriteLog

KIB = 1024
# 256 MB of lowmem, nothing more below 4 GB, and 1 GB above.
NO_DMA32 = "memmap=exactmap memmap=639K@0 memmap=255M@1M memmap=1G@4G"
BIG = 900 * KIB  # direct blocks, one block of pointers and, in blocks of 1 KiB, two levels


def tool(*words: str, allowed: tuple[int, ...] = (0,)) -> str:
    """Runs one of e2fsprogs' programs or another of the host's."""
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", env=environment, check=False)
    check(done.returncode in allowed, f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def random_bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Volume:
    """An image, the folder that it was made from, and what it should contain."""

    def __init__(self, options: str, mib: int = 32):
        self.folder = tempfile.mkdtemp(prefix="ext2-", dir=harness.build_directory())
        self.image = os.path.join(self.folder, "disk.img")
        source = os.path.join(self.folder, "source")
        os.makedirs(os.path.join(source, "deep/er"))
        self.files = {"big": random_bytes(BIG, 1), "old": random_bytes(50_000, 2), "deep/er/small": b"hello\n",
                      "deep/gone": b"soon\n"}
        self.files |= {f"deep/file-{i}": b"%d\n" % i for i in range(100)}
        for name, data in self.files.items():
            with open(os.path.join(source, name), "wb") as file:
                file.write(data)
        os.symlink("deep/er/small", os.path.join(source, "link"))
        tool("mke2fs", "-q", "-F", "-t", "ext2", *options.split(), "-d", source, self.image, f"{mib}M")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.folder, ignore_errors=True)

    def drive(self, kind: str, path: str = "") -> tuple[str, ...]:
        path = path or self.image
        if kind == "ide":
            return ("-drive", f"if=ide,index=0,id=medium,format=raw,file={path}")
        return ("-drive", f"if=none,id=medium,format=raw,file={path}", "-device", "virtio-blk-pci,drive=medium")

    def clean(self) -> None:
        tool("e2fsck", "-fn", self.image)

    def compare(self) -> None:
        """Every file on the image is one of ours, with its contents."""
        out = tempfile.mkdtemp(dir=self.folder)
        tool("debugfs", "-R", f"rdump / {out}", self.image)
        found = {}
        for folder, _, names in os.walk(out):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.islink(path):
                    continue
                with open(path, "rb") as file:
                    found[os.path.relpath(path, out)] = file.read()
        check(sorted(found) == sorted(self.files), f"names differ: {sorted(set(found) ^ set(self.files))}")
        for name, data in self.files.items():
            check(found[name] == data, f"{name}: {len(found[name])} bytes are not the {len(data)} expected")


def expected_sum(path: str, data: bytes) -> str:
    done = subprocess.run(["cksum"], input=data, capture_output=True, check=True)
    return f"{done.stdout.decode().strip()} {path}"


def command(guest, line: str, fails: bool = False) -> str:
    text = guest.command(line)
    if not fails:
        check(f"{line.split()[0]}: " not in text, f"{line}: {text.strip()}")
    return text


def use(guest, volume: Volume, top: str = "/mnt") -> None:
    """Reads everything, then changes something of every kind, in the guest and in what is expected."""
    for name in ("big", "old", "deep/er/small"):
        text = command(guest, f"cksum {top}/{name}")
        check(expected_sum(f"{top}/{name}", volume.files[name]) in text, f"cksum {name}: {text.strip()}")
    check("hello" in command(guest, f"cat {top}/link"), "the symbolic link leads nowhere")
    check("file-99" in command(guest, f"ls {top}/deep"), "a name is missing")
    command(guest, f"cp {top}/big {top}/deep/copy")
    volume.files["deep/copy"] = volume.files["big"]
    command(guest, f"write {top}/deep/er/small changed")
    volume.files["deep/er/small"] = b"changed\n"
    command(guest, f"write -a {top}/deep/file-7 more")
    volume.files["deep/file-7"] += b"more\n"
    command(guest, f"mkdir {top}/new")
    command(guest, f"mv {top}/old {top}/new/moved")
    volume.files["new/moved"] = volume.files.pop("old")
    command(guest, f"mv {top}/deep/er {top}/new/er")
    volume.files["new/er/small"] = volume.files.pop("deep/er/small")
    command(guest, f"rm {top}/deep/gone {top}/link")
    del volume.files["deep/gone"]
    command(guest, f"truncate -s 5000 {top}/big")
    command(guest, f"truncate -s 700000 {top}/big")
    # Into a hole: the new block has been another file's, or this one's.
    command(guest, f"write -a {top}/big tail")
    volume.files["big"] = volume.files["big"][:5000].ljust(700_000, b"\0") + b"tail\n"
    command(guest, f"ln {top}/new/moved {top}/hard")
    volume.files["hard"] = volume.files["new/moved"]
    for i in range(40):
        command(guest, f"write {top}/new/a-rather-long-name-{i} {i}")
        volume.files[f"new/a-rather-long-name-{i}"] = b"%d\n" % i
    text = command(guest, f"cksum {top}/deep/copy")
    check(expected_sum(f"{top}/deep/copy", volume.files["deep/copy"]) in text, f"the copy differs: {text.strip()}")


def bounced(guest) -> tuple[int, int]:
    """Sectors that were read and written through bounce memory, by `bounceinfo`."""
    text = command(guest, "bounceinfo")
    lines = [line.split() for line in text.splitlines()]
    head = next(line for line in lines if line[:1] == ["pool"])
    pools = [line for line in lines if line[:1] in (["DMA"], ["DMA32"])]
    check(head[-2:] == ["read", "written"] and len(pools) == 2, f"bounceinfo: {text.strip()}")
    return sum(int(line[-2]) for line in pools), sum(int(line[-1]) for line in pools)


def judge_bounced(guest, volume: Volume, through: str, before: tuple[int, int]) -> str:
    """`through`: whether the files have gone through bounce memory, all of them or none."""
    read, written = (after - start for after, start in zip(bounced(guest), before, strict=True))
    if through == "bounce":
        # These have been read as a whole; written has been a copy, and more.
        files = (BIG + 50_000) // 512
        check(read >= files and written >= len(volume.files["deep/copy"]) // 512,
              f"only {read} sectors read and {written} written were bounced")
    else:
        check((read, written) == (0, 0), f"{read} sectors read and {written} written were bounced")
    return f"{read}+{written} sectors bounced"


def changed_in_guest(kind: str, options: str, memory: str = "64G", through: str = "none", words: str = "") -> str:
    with Volume(options) as volume:
        name = "hda" if kind == "ide" else "vda"
        append = f"{words} panic=exit"
        with harness.boot(memory=memory, extra=volume.drive(kind), append=append, timeout=120) as guest:
            guest.expect_prompt()
            if through == "bounce" or kind == "virtio":
                command(guest, "diskpages anywhere")
            before = bounced(guest)  # the partition table's sector may be among them
            command(guest, "mkdir /mnt")
            command(guest, f"mount {name} /mnt ext2")
            use(guest, volume)
            command(guest, "umount /mnt")
            command(guest, f"mount {name} /mnt")
            text = command(guest, "cksum /mnt/big")
            check(expected_sum("/mnt/big", volume.files["big"]) in text, f"after mounting again: {text.strip()}")
            command(guest, "umount /mnt")
            remark = judge_bounced(guest, volume, through, before)
        volume.clean()
        volume.compare()
    return f"{len(volume.files)} files, {remark}"


def left_clean(how: str, kind: str = "ide") -> str:
    """A file is written, and the machine goes off: nobody has said `sync`."""
    with Volume("-b 1024", 16) as volume:
        exits = how == "exit"
        root = f"root={'hda' if kind == 'ide' else 'vda'}"
        append = f'{root} run="write /kept what was written" exit' if exits else f"{root} panic=exit"
        with harness.boot(memory="512M", extra=volume.drive(kind), append=append, timeout=120) as guest:
            if not exits:
                guest.expect_prompt()
                command(guest, "write /kept what was written")
                guest.send(how.encode() + b"\r")
            guest.wait_exit(60)
        volume.files["kept"] = b"what was written\n"
        volume.clean()
        volume.compare()
    return ""


def off_with_a_bad_disk() -> str:
    """All writes fail from the first one after mounting on; the machine goes off all the same."""
    with Volume("-b 1024", 16) as volume:
        rules = os.path.join(volume.folder, "rules")
        with open(rules, "w", encoding="ascii") as file:
            file.write('[inject-error]\nevent = "write_aio"\nerrno = "5"\nonce = "off"\nstate = "2"\n'
                       '[set-state]\nstate = "1"\nevent = "write_aio"\nnew_state = "2"\n')
        extra = ("-drive", f"if=ide,index=0,format=raw,file=blkdebug:{rules}:{volume.image}")
        with harness.boot(memory="512M", extra=extra, append="root=hda panic=exit", timeout=120) as guest:
            guest.expect_prompt()
            command(guest, "write /lost what was written")
            guest.send(b"poweroff\r")
            guest.wait_exit(60)
        tool("e2fsck", "-fy", volume.image, allowed=(0, 1))
    return ""


def medium_goes(kind: str) -> str:
    """While it is mounted. What was synced is on it; what was not is given up, and the machine goes on without."""
    with Volume("-b 1024", 16) as volume:
        name = "hda" if kind == "ide" else "vda"
        with harness.boot(memory="512M", extra=volume.drive(kind), append="panic=exit", timeout=120) as guest:
            guest.expect_prompt()
            command(guest, "mkdir /mnt /again")
            command(guest, f"mount {name} /mnt ext2")
            command(guest, "write /mnt/safe what was synced")
            command(guest, "sync")
            command(guest, "write /mnt/lost what was not")
            command(guest, "cp /mnt/big /mnt/copy")
            guest.monitor("human-monitor-command", **{"command-line": "drive_del medium"})
            for line in ("sync", "umount /mnt", "umount /mnt"):
                text = command(guest, line, fails=True)
                check("input/output error" in text, f"{line} does not fail: {text.strip()}")
            text = guest.command("umount -f /mnt")
            check("given up with" in text and "umount: " not in text, f"it is not given up: {text.strip()}")
            check("/mnt" not in command(guest, "mount"), "it is still mounted")
            check("safe" not in command(guest, "ls /mnt"), "its files are still there")
            meminfo = command(guest, "meminfo")
            check(re.search(r"Dirty: +0 kB\nWriteback: +0 kB", meminfo) is not None, "dirty pages stay for ever")
            text = command(guest, f"mount {name} /again ext2", fails=True)
            check("input/output error" in text, f"it is mounted again: {text.strip()}")
            command(guest, "write /here alive")
            command(guest, "sync")
            guest.send(b"poweroff\r")
            guest.wait_exit(60)
        tool("e2fsck", "-fy", volume.image, allowed=(0, 1))
        check(contents(volume.image, "safe") == b"what was synced\n", "what was synced is lost")
    return ""


def sync_everything(guest, i: int) -> tuple[str, bytes]:
    """One round of changes; the file that is on the medium afterwards."""
    command(guest, f"mkdir /mnt/dir-{i}")
    command(guest, f"cp /mnt/old /mnt/dir-{i}/copy")
    command(guest, f"write /mnt/dir-{i}/text {'text ' * 9}{i}")
    if i % 2 == 1:
        command(guest, f"rm /mnt/dir-{i - 1}/copy")
        command(guest, f"truncate -s {1000 * i} /mnt/big")
    command(guest, "sync")
    return f"dir-{i}/text", f"{'text ' * 9}{i}\n".encode()


def sync_one_file(guest, i: int) -> tuple[str, bytes]:
    """The same with one file on the medium, and others that may be anywhere."""
    command(guest, f"cp /mnt/big /mnt/before-{i}")
    if i > 0:
        command(guest, f"rm /mnt/before-{i - 1}")
    if i % 2 == 1:
        command(guest, f"mkdir /mnt/dir-{i}")
    top = f"dir-{i}/" if i % 2 == 1 else ""
    command(guest, f"cp /mnt/old /mnt/{top}kept-{i}")
    command(guest, f"write -a /mnt/{top}kept-{i} {i}")
    command(guest, f"write /mnt/behind-{i} nobody waits for this")
    command(guest, f"sync /mnt/{top}kept-{i}")
    return f"{top}kept-{i}", random_bytes(50_000, 2) + b"%d\n" % i


def power_cuts(kind: str, options: str, rounds: int, states: int, work=sync_everything) -> str:
    with Volume(options, 16) as volume:
        before = os.path.join(volume.folder, "before.img")
        shutil.copyfile(volume.image, before)
        log = os.path.join(volume.folder, "log")
        with open(log, "wb"):
            pass
        device = "ide-hd,drive=log,bus=ide.0,unit=0" if kind == "ide" else "virtio-blk-pci,drive=log"
        extra = ("-blockdev", f"driver=file,node-name=disk,filename={volume.image}",
                 "-blockdev", f"driver=file,node-name=logfile,filename={log}",
                 "-blockdev", "driver=blklogwrites,node-name=log,file=disk,log=logfile,log-sector-size=512",
                 "-device", device)
        synced = []  # (writes in the log when it was on the medium, name, data)
        with harness.boot(memory="1G", extra=extra, append="panic=exit", timeout=300) as guest:
            guest.expect_prompt()
            command(guest, "mkdir /mnt")
            command(guest, f"mount {'hda' if kind == 'ide' else 'vda'} /mnt ext2")
            for i in range(rounds):
                name, data = work(guest, i)
                synced.append((len(WriteLog(log).entries), name, data))
            command(guest, "umount /mnt")
        volume.clean()
        return judge_states(volume, before, WriteLog(log), synced, states)


def contents(image: str, name: str) -> bytes:
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(image)) as out:
        tool("debugfs", "-R", f"dump /{name} {out.name}", image)
        return out.read()


def power_goes(log: WriteLog, states: int):
    """Moments of a power cut, ascending: (entries begun, entries on the medium, those of the others that made it)."""
    count = len(log.entries)
    numbers = random.Random(states)
    # Where a sync has just ended, the promise is fresh: half of the cuts are there, or a little later.
    flushes = [n + 1 for n in range(count) if log.entries[n][3] & LOG_FLUSH]
    ends = [count, *(round(1 + i * (count - 1) / max(states // 2 - 1, 1)) for i in range(states // 2))]
    ends += [min(count, numbers.choice(flushes) + numbers.randrange(8)) for _ in range(states - len(ends))]
    for end in sorted(ends):
        flushed = log.flushed_before(end)
        # All of them is what a cache that writes in order leaves; none is what one that was never written back does.
        share = numbers.choice((0, 0.2, 0.5, 0.8, 1))
        yield end, flushed, [n for n in range(flushed, end) if numbers.random() < share]


def judge_states(volume: Volume, before: str, log: WriteLog, synced, states: int) -> str:
    with open(before, "rb") as file:
        medium = bytearray(file.read())
    count = len(log.entries)
    check(count > 20, f"only {count} writes in the log")
    path = os.path.join(volume.folder, "state.img")
    done = demanded = lost = 0
    for end, flushed, some in power_goes(log, states):
        log.replay(medium, range(done, flushed))
        done = flushed
        lost += end - flushed - len(some)
        image = bytearray(medium)
        log.replay(image, some)
        with open(path, "wb") as file:
            file.write(image)
        tool("e2fsck", "-fy", path, allowed=(0, 1))
        tool("e2fsck", "-fn", path)
        for writes, name, data in synced:
            if end < writes:
                continue
            demanded += 1
            check(contents(path, name) == data, f"{name} was synced after {writes} writes and is lost after {end} of "
                  f"{count}, with {flushed} flushed and {some} behind them")
    flushes = sum(bool(entry[3] & LOG_FLUSH) for entry in log.entries)
    check(demanded > 0 and lost > 0, f"{demanded} times a file was demanded, {lost} writes lost: nothing is proved")
    return (f"{states} states of {count} entries, {flushes} of them flushes, {lost} times a write was lost, "
            f"{demanded} times a synced file was found")


def cases(options) -> list[Case]:
    rounds, states = (50, 500) if options.full else (6, 50)
    return [
        Case("boot.ext2.ide-64G", lambda: changed_in_guest("ide", "-b 4096")),
        Case("boot.ext2.ide-64G-bounced", lambda: changed_in_guest("ide", "-b 4096", through="bounce")),
        Case("boot.ext2.ide-without-dma32",
             lambda: changed_in_guest("ide", "-b 1024", "6G", through="bounce", words=NO_DMA32)),
        Case("boot.ext2.virtio-64G", lambda: changed_in_guest("virtio", "-b 1024")),
        Case("boot.ext2.ide-2k-blocks", lambda: changed_in_guest("ide", "-b 2048 -I 128", "512M")),
        *(Case(f"boot.ext2.left-clean-{how}", lambda how=how: left_clean(how))
          for how in ("poweroff", "reboot", "exit")),
        Case("boot.ext2.left-clean-virtio", lambda: left_clean("exit", "virtio")),
        *(Case(f"boot.ext2.medium-goes-{kind}", lambda kind=kind: medium_goes(kind)) for kind in ("ide", "virtio")),
        Case("boot.ext2.off-with-a-bad-disk", off_with_a_bad_disk),
        Case("boot.ext2.power-cuts-ide", lambda: power_cuts("ide", "-b 1024", rounds, states)),
        Case("boot.ext2.power-cuts-virtio", lambda: power_cuts("virtio", "-b 4096", rounds, states)),
        Case("boot.ext2.fsync-cuts-ide",
             lambda: power_cuts("ide", "-b 1024", rounds, states, sync_one_file)),
        Case("boot.ext2.fsync-cuts-virtio",
             lambda: power_cuts("virtio", "-b 4096", rounds, states, sync_one_file)),
    ]


if __name__ == "__main__":
    harness.main(__doc__, cases)
