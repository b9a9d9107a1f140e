"""Pictures of the report as SVG, and the page around them. No script, no font, nothing from a network."""

import html

# Colours that people with poor colour vision can tell apart (Okabe and Ito), then shades for what is left.
INK = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a500", "#7b4fa3", "#4d4d4d", "#8c564b",
       "#1b7837", "#bd0026", "#3f51b5", "#a6761d", "#666699", "#c0a0a0")
FREE, NOTHING, LINUX, PAEAN = "#e4ebf0", "#ffffff", "#b9bec4", "#0072b2"
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1d2329;margin:2em auto;max-width:1080px;padding:0 1em}
h1{margin-bottom:.2em}h2{margin-top:2em;border-bottom:1px solid #ccd3d9}h3{margin:1.2em 0 .3em}
svg{display:block;width:100%;height:auto;margin:.4em 0}svg text{font:12px system-ui,sans-serif;fill:#1d2329}
.legend span{display:inline-block;margin-right:1.2em}.legend i{display:inline-block;width:.9em;height:.9em;
margin-right:.4em;vertical-align:-.1em;border:1px solid #8895a0}p.note{color:#55606a}
"""
WIDTH = 1040


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(words)}</text>'


def box(x, y, width, height, colour, title=""):
    inside = f"<title>{html.escape(title)}</title>" if title else ""
    return (f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{height:.2f}" fill="{colour}">'
            f"{inside}</rect>")


def svg(height, parts, label):
    return (f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{html.escape(label, quote=True)}">' +
            "".join(parts) + "</svg>\n")


def legend(entries):
    """`entries`: (colour, words)"""
    spans = (f'<span><i style="background:{colour}"></i>{html.escape(words)}</span>' for colour, words in entries)
    return f'<p class="legend">{"".join(spans)}</p>\n'


def beside_linux(rows):
    """A pair of bars a row. Costs and sizes differ by factors of a million, so the longer bar of a pair is the whole
    width, and the figures stand at their ends."""
    parts, y, left, room = [], 0, 190, WIDTH - 190 - 130
    for row in rows:
        most = max(row["linux"], row["paean"]) or 1
        parts.append(text(left - 8, y + 19, row["operation"], "end"))
        for offset, who, colour in ((2, "linux", LINUX), (14, "paean", PAEAN)):
            width = room * row[who] / most
            parts.append(box(left, y + offset, max(width, 1), 11, colour, f"{who}: {row[who]:,.2f} {row['unit']}"))
            parts.append(text(left + width + 5, y + offset + 10, f"{row[who]:,.0f} {row['unit']}"))
        y += 32
    return svg(y, parts, "Linux and Paean side by side")


def colours_of(names):
    """One colour a name, the same in all pictures that are given the same names."""
    return {name: INK[i % len(INK)] for i, name in enumerate(names)}


def physical_memory(zones, colours, legend_words):
    """The console's map: a cell a piece of a zone, pale where less than half of it is used."""
    parts, y, left = [], 0, 130
    for zone, size, cell, rows in zones:
        parts.append(text(0, y + 14, f"{zone}: {size:,} MB, a cell is {cell:,} kB"))
        y += 20
        for address, cells in rows:
            parts.append(text(left - 8, y + 10, f"{address:x}", "end"))
            width = (WIDTH - left) / max(len(cells), 1)
            for i, letter in enumerate(cells):
                fixed = {".": FREE, " ": NOTHING, "=": "#f3e3a8"}
                colour = fixed.get(letter) or colours.get(letter.upper(), INK[8])
                shade = box(left + i * width, y, width - 1, 11, colour,
                            f"{address:x}, cell {i}: {legend_words.get(letter.upper(), 'unknown')}")
                parts.append(shade.replace("<rect", '<rect opacity=".45"', 1) if letter.islower() else shade)
            y += 13
        y += 8
    return svg(y, parts, "physical memory by zone and use")


def ledger(machines, colours):
    """A bar of lowmem for each machine: who has it, and what is free. What has less than a pixel is in the titles and
    in the second bar, which leaves out what is free."""
    parts, y, left = [], 0, 130
    for mem, rows in machines:
        for title, chosen in ((f"{mem}, all of it", rows), ("used alone", [row for row in rows if row[0] != "free"])):
            whole = sum(kib for _, kib in chosen)
            parts.append(text(left - 8, y + 15, title, "end"))
            x = left
            for name, kib in chosen:
                width = (WIDTH - left - 110) * kib / whole
                parts.append(box(x, y + 2, width, 18, FREE if name == "free" else colours[name], f"{name}: {kib:,} kB"))
                x += width
            parts.append(text(x + 6, y + 15, f"{whole:,} kB"))
            y += 24
        y += 10
    return svg(y, parts, "lowmem by owner")


KMAP_COLOURS = {"in use": INK[5], "waiting": INK[1], "cached": INK[0], "clean": FREE}


def kmap_grid(slots):
    """A cell a slot, sorted by state."""
    states = [state for state in KMAP_COLOURS for _ in range(slots[state])]
    across = 64
    size = WIDTH / across
    parts = [box(i % across * size, i // across * size, size - 1, size - 1, KMAP_COLOURS[state], state)
             for i, state in enumerate(states)]
    return svg((len(states) + across - 1) // across * size, parts, "slots of kmap by state")


def lines(series, height=260):
    """`series`: {name: [share of 1]}, over the rounds."""
    parts, left, bottom = [], 50, height - 26
    count = max(len(values) for values in series.values())
    for tenth in range(0, 11, 2):
        y = bottom - (bottom - 10) * tenth / 10
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{WIDTH}" y2="{y:.1f}" stroke="#dde3e8"/>')
        parts.append(text(left - 6, y + 4, f"{10 * tenth} %", "end"))
    parts += [text(left, height - 8, "before the first round"), text(WIDTH, height - 8, f"round {count - 1}", "end")]
    for (name, values), colour in zip(series.items(), INK):
        points = " ".join(f"{left + (WIDTH - left) * i / max(count - 1, 1):.1f},{bottom - (bottom - 10) * value:.1f}"
                          for i, value in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5">'
                     f"<title>{html.escape(name)}</title></polyline>")
    return svg(height, parts, "fragmentation over the rounds") + legend(zip(INK, series))


def page(title, sections):
    """`sections`: (heading, explanation, markup)"""
    body = "".join(f'<section><h2>{html.escape(heading)}</h2><p class="note">{html.escape(words)}</p>{markup}'
                   "</section>\n" for heading, words, markup in sections)
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
            f"<body><h1>{html.escape(title)}</h1>\n{body}</body></html>\n")
