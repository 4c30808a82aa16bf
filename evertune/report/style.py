"""The report page's one style sheet: light and dark, narrow and wide, screen and paper."""

STYLE = """
:root { color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1c2024; --soft: #60666d; --line: #e3e5e8; --shade: #f3f4f5;
  --ours: #2563eb; --good: #12703c; --bad: #b42318;
  --promoted: #12703c; --held: #8a5300; --rejected: #b42318; --unchanged: #4b5563; }
@media (prefers-color-scheme: dark) { :root {
  --page: #131517; --card: #191c1f; --ink: #e6e8ea; --soft: #9aa1a9; --line: #2c3136; --shade: #202428;
  --ours: #7aa7ff; --good: #5bc98c; --bad: #ff8a7d;
  --promoted: #1b7f48; --held: #8f5c0b; --rejected: #b3372b; --unchanged: #4f5965; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main, footer { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1.25rem; }
.hero { border-radius: 12px; padding: 1.1rem 1.4rem 1.2rem; color: #fff; }
.hero .where { margin: 0; opacity: .9; }
.hero h1 { margin: .1rem 0 0; font-size: 1.35rem; line-height: 1.35; font-weight: 500; overflow-wrap: anywhere; }
.hero h1 b { font-weight: 700; }
.promoted { background: var(--promoted); } .held { background: var(--held); }
.rejected { background: var(--rejected); } .unchanged { background: var(--unchanged); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: .9rem 0 0; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .65rem .9rem .7rem; }
.tiles dt { color: var(--soft); font-size: .85rem; } .tiles dd { margin: 0; font-variant-numeric: tabular-nums; }
.tiles dd b { font-size: 1.4rem; font-weight: 600; } .tiles small { display: block; color: var(--soft); }
nav { margin: 1.1rem 0 0; display: flex; gap: .25rem 1.1rem; overflow-x: auto; white-space: nowrap; font-size: .9rem; }
a { color: var(--ours); text-decoration: none; } a:hover { text-decoration: underline; }
h2 { font-size: 1.12rem; margin: 2.3rem 0 .6rem; } h3 { font-size: .98rem; margin: 1.3rem 0 .5rem; }
.note, figcaption { color: var(--soft); font-size: .9rem; margin: .3rem 0 .7rem; max-width: 48rem; }
.box { overflow: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; max-width: 100%; }
.box + .box, .box + figure, figure + .box { margin-top: .9rem; }
.tall, .prose { max-height: 36rem; }
.fit { width: fit-content; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .36rem .8rem; text-align: left; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead { position: sticky; top: 0; z-index: 1; }
thead th { background: var(--shade); color: var(--soft); font-weight: 500; font-size: .85rem; vertical-align: bottom; }
tbody th { font-weight: 400; } tr:has(.chief) > * { font-weight: 600; }
.number { text-align: right; }
.none, .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.mark { font-weight: 600; }
.bar { display: inline-block; width: 7rem; height: .6rem; border-radius: 3px; overflow: hidden;
  background: var(--shade); }
.bar i { display: block; height: 100%; background: var(--ours); }
.bar.quiet i { background: var(--soft); }
.value { display: inline-block; min-width: 4rem; text-align: right; }
.prose td, .prose th { white-space: normal; min-width: 8rem; overflow-wrap: anywhere; }
.prose tbody th { min-width: 18rem; max-width: 36rem; }
.told tbody td, .told tbody th { min-width: 0; padding-left: .5rem; padding-right: .5rem; white-space: normal; }
.tests tbody th { white-space: normal; min-width: 7rem; max-width: 14rem; }
.tests th, .tests td { padding-left: .55rem; padding-right: .55rem; }
.words { white-space: pre-wrap; }
.pair { display: block; }
.facts { display: grid; gap: .6rem 1.5rem; margin: 0 0 .9rem;
  grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
figure { margin: 0; } figure .box { width: fit-content; }
figure img { display: block; max-width: max(100%, 48rem); height: auto; }
img.thumbnail { display: inline-block; width: 64px; margin-right: 3px; image-rendering: pixelated; }
.gallery { display: flex; flex-wrap: wrap; gap: .9rem 1.4rem; } .tile { width: min-content; min-width: 8.8rem; }
.tile img { display: inline-block; } .tile figcaption { font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--ours); margin: .7rem 0; }
footer { color: var(--soft); font-size: .85rem; padding-top: .5rem; }
@media (prefers-color-scheme: dark) { img { filter: invert(.9) hue-rotate(180deg); } img.thumbnail { filter: none; } }
@media (max-width: 40rem) {
  main { padding: .9rem .8rem; } .hero { padding: .9rem 1rem; } .hero h1 { font-size: 1.15rem; }
  th, td { padding: .34rem .55rem; } .bar { width: 4rem; } .tiles, .facts { grid-template-columns: 1fr 1fr; }
  nav { flex-wrap: wrap; white-space: normal; } figure .box { width: auto; } figure img { max-width: 100%; }
  td, th { overflow-wrap: anywhere; white-space: normal; } .value { min-width: 3rem; }
  .wide .bar { display: none; } .wide.fit { width: auto; } .wide .value { min-width: 0; }
  .wide thead { position: absolute; clip-path: inset(50%); }
  .wide tr { display: grid; grid-template-columns: repeat(auto-fit, minmax(5.6rem, 1fr)); padding: .35rem 0;
    border-bottom: 1px solid var(--line); }
  .wide tbody tr > * { border: 0; padding: .12rem .7rem; text-align: left; }
  .wide tbody th { grid-column: 1 / -1; font-weight: 600; }
  .prose tbody th, .tests tbody th { min-width: 0; max-width: none; } .prose tbody th { font-weight: 400; }
  .prose td { min-width: 0; }
  .fit .number { white-space: nowrap; }
  .wide td:is([data-head="Why"], [data-head="Recommended"], [data-head="Dates"], [data-head="Digest"]) {
    grid-column: 1 / -1; }
  .wide.told .mark { white-space: nowrap; }
  .wide td::before { content: attr(data-head); display: block; color: var(--soft); font-size: .8rem; } }
@media print {
  :root { --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc; --shade: #f3f4f5;
    --good: #12703c; --bad: #b42318; --ours: #2563eb; }
  body { font-size: 10.5px; } main { max-width: none; padding: 0; } nav { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .box, .tall, .prose { overflow: visible; max-height: none; } thead { position: static; }
  figure img { filter: none; max-width: 100%; }
  figure, tr, .tiles { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""
