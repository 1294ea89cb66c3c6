"""The page that asks for a key: nothing but itself, no script."""

from __future__ import annotations

from html import escape

from app.ui.look import LOGO

_STYLE = """
:root{color-scheme:light dark;--bg:#fafafa;--card:#fff;--text:#18181b;--soft:#71717a;--line:#e4e4e7;--accent:#4f46e5;
--bad:#b91c1c}
@media(prefers-color-scheme:dark){:root{--bg:#0b0b0f;--card:#15151b;--text:#f4f4f5;--soft:#a1a1aa;--line:#2a2a33;
--accent:#818cf8;--bad:#fca5a5}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);
color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{width:min(24rem,calc(100vw - 2rem));padding:2rem;background:var(--card);border:1px solid var(--line);
border-radius:16px}h1{display:flex;gap:.6rem;align-items:center;font-size:1.25rem;margin:0 0 .25rem}
h1 svg{width:1.75rem;height:1.75rem}p{margin:0 0 1.25rem;color:var(--soft)}label{display:block;font-weight:600;
margin-bottom:.4rem}input{width:100%;font:inherit;padding:.65rem .8rem;border:1px solid var(--line);border-radius:10px;
background:var(--bg);color:inherit}input:focus-visible,button:focus-visible{outline:2px solid var(--accent);
outline-offset:2px}button{width:100%;margin-top:1rem;padding:.7rem;border:0;border-radius:10px;background:#4f46e5;
color:#fff;font:inherit;font-weight:600;cursor:pointer}.problem{color:var(--bad);margin:.6rem 0 0}
"""


def login_page(*, wanted: str, problem: str = "") -> str:
    """wanted: the page to go to afterwards. problem: a sentence about the last try."""
    told = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Log in · Pipeserve</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body><main>
<h1>{LOGO} Pipeserve</h1><p>This server asks for an API key.</p>
<form method="post" action="/ui/login"><input type="hidden" name="next" value="{escape(wanted)}">
<label for="key">API key</label><input id="key" name="key" type="password" autocomplete="current-password" required
autofocus spellcheck="false">{told}<button>Log in</button></form></main></body></html>"""
