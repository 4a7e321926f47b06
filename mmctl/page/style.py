"""How the pages look: their style sheet, and the script that sorts tables where scripts are allowed."""

from __future__ import annotations

from mmctl.report import svg

LIGHT = {"soft": "#f3f5f7", "bar": "#cfe3f1"}
DARK = {"soft": "#20242a", "bar": "#1f4159"}
"""Colours of the pages beside those of the charts: what lies behind code and notes, and behind a share."""


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--mm-{name}:{colour}" for name, colour in colours.items())


STYLE = f"""{svg.STYLE}
:root{{color-scheme:light dark;{_variables(LIGHT)}}}
@media(prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}
*{{box-sizing:border-box}}
html{{scroll-padding-top:1rem}}
body{{margin:0 auto;max-width:84rem;padding:0 1rem 2rem;background:var(--mm-page);color:var(--mm-words);
font:16px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}}
a{{color:var(--mm-line0);overflow-wrap:anywhere}}
:focus-visible{{outline:3px solid var(--mm-line0);outline-offset:2px}}
main:focus{{outline:none}}
.skip{{position:absolute;left:-99rem}}
.skip:focus{{left:1rem;top:.5rem;padding:.5rem 1rem;background:var(--mm-page);z-index:1}}
h1{{font-size:1.6rem;line-height:1.2;margin:1.5rem 0 .5rem;overflow-wrap:anywhere}}
h2{{font-size:1.25rem;margin:2.5rem 0 .75rem;padding-top:.75rem;border-top:1px solid var(--mm-grid)}}
h3{{font-size:1rem;margin:1.5rem 0 .5rem;overflow-wrap:anywhere}}
p{{max-width:48rem;margin:.5rem 0}}
header p,footer,small,.notes,.absent{{color:var(--mm-faint)}}
.absent{{background:var(--mm-soft);padding:.5rem .75rem;border-left:3px solid var(--mm-axis);overflow-wrap:anywhere}}
nav ul{{list-style:none;margin:1rem 0 0;padding:0;display:flex;flex-wrap:wrap;gap:.25rem 1.25rem}}
nav a{{display:inline-block;padding:.25rem 0}}
.grid{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));gap:0 2rem;
align-items:start;margin-top:1rem}}
figure{{margin:0;min-width:0}}
.grid>figure{{margin-bottom:1rem;grid-template-columns:minmax(0,1fr)}}
figcaption{{margin-bottom:.25rem;overflow-wrap:anywhere}}
figcaption small{{display:block}}
@supports(grid-template-rows:subgrid){{.grid>figure{{display:grid;grid-row:span 3;grid-template-rows:subgrid;
row-gap:0}}}}
.mm-chart{{display:block;width:100%;max-width:30rem}}
.table{{overflow-x:auto;max-width:100%;margin:0 0 .5rem}}
table{{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}}
caption{{position:sticky;left:0;max-width:calc(100vw - 2rem);text-align:left;font-weight:600;
padding:.5rem 0 .25rem;font-size:1rem}}
th,td{{padding:.25rem .9rem .25rem 0;text-align:left;white-space:nowrap;font-weight:normal;vertical-align:baseline}}
thead th{{font-weight:600;border-bottom:2px solid var(--mm-axis);vertical-align:bottom}}
tbody tr{{border-bottom:1px solid var(--mm-grid)}}
tbody th{{white-space:normal;min-width:min(13rem,35vw);overflow-wrap:break-word;position:sticky;left:0;
background:var(--mm-page)}}
.n{{text-align:right}}
.sub th{{padding-left:1rem}}
.share{{display:inline-block;min-width:6.2rem;padding:0 .3rem;text-align:right;
background:linear-gradient(90deg,var(--mm-bar) var(--share),transparent var(--share))}}
.notes{{list-style:none;padding:0;margin:0 0 1.5rem;font-size:.85rem;max-width:60rem}}
th button{{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer;
text-decoration:underline dotted}}
[aria-sort=ascending] button::after{{content:" \\2191"}}
[aria-sort=descending] button::after{{content:" \\2193"}}
details{{margin:.25rem 0 .75rem}}
summary{{cursor:pointer;color:var(--mm-line0);padding:.15rem 0;overflow-wrap:anywhere}}
pre{{background:var(--mm-soft);padding:.75rem;overflow-x:auto;font-size:.85rem;max-height:32rem}}
code{{font-family:ui-monospace,'DejaVu Sans Mono',monospace}}
dl{{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.25rem 1rem;margin:.5rem 0;font-size:.9rem}}
dt{{color:var(--mm-faint)}}
dd{{margin:0;overflow-wrap:anywhere}}
.mistakes{{list-style:none;padding:0;margin:.5rem 0;display:grid;gap:.75rem;
grid-template-columns:repeat(auto-fill,minmax(6rem,1fr))}}
.mistakes img{{width:6rem;height:6rem;object-fit:contain;background:var(--mm-soft);display:block;
image-rendering:pixelated}}
.mistakes img.fine{{image-rendering:auto}}
.mistakes figcaption{{font-size:.85rem;line-height:1.35}}
footer{{margin-top:3rem;font-size:.85rem}}
@media(max-width:30rem){{dl{{grid-template-columns:1fr;gap:0}}dd{{margin-bottom:.4rem}}}}
@media print{{nav,.skip,footer{{display:none}}body{{max-width:none;font-size:10pt}}figure,tr{{break-inside:avoid}}
h2,h3{{break-after:avoid}}.table{{overflow:visible}}pre{{max-height:none;white-space:pre-wrap}}}}
"""
SCRIPT = """for(const t of document.querySelectorAll("table.sort"))t.tHead.querySelectorAll("th").forEach((h,k)=>{
const b=document.createElement("button");b.type="button";b.append(...h.childNodes);h.append(b);
b.onclick=()=>{const up=h.getAttribute("aria-sort")==="ascending";
t.tHead.querySelectorAll("th").forEach(o=>o.removeAttribute("aria-sort"));
h.setAttribute("aria-sort",up?"descending":"ascending");
const of=r=>r.cells[k].textContent,c=new Intl.Collator("en",{numeric:true}),
num=s=>/^[-+]?\\d[\\d,]*(\\.\\d+)?( |%|$)/.test(s)?parseFloat(s.replace(/,/g,"")):NaN;
t.tBodies[0].append(...[...t.tBodies[0].rows].sort((p,q)=>{const x=of(p),y=of(q),m=num(x),n=num(y);
return(up?-1:1)*(isNaN(m)||isNaN(n)?c.compare(x,y):m-n)}))}})"""
"""Makes the heads of a table buttons that sort it. Without it, the table is there as it was written."""
