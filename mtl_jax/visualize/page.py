"""One HTML page that holds its pictures itself: it can be sent, and opens without a network."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1200px; padding: 1rem;
       color: #1c1f23; background: #fff; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem;
     border-bottom: 1px solid #d5d9de; }
figure { margin: 1rem 0; } figcaption { color: #4a525a; font-size: .9rem; }
img { max-width: 100%; height: auto; display: block; border: 1px solid #e3e6ea; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; border-bottom: 1px solid #e3e6ea; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f5f7; padding: .75rem; overflow-x: auto; }
"""
