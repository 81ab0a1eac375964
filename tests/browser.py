"""Pages in a real browser, if one is installed."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find():
  """The path of a browser; None where none is installed."""
  return next(filter(None, map(shutil.which, NAMES)), None)


needed = pytest.mark.skipif(
  find() is None, reason=f"no browser: none of {', '.join(NAMES)} is installed"
)


def check(source, folder, *, width):
  """A page has no errors, links that lead nowhere, or what is wider than its window."""
  found = look(source, folder, width=width)
  assert found["errors"] == []
  assert found["lost"] == []
  assert found["wide"] == []
  assert found["scroll"] <= found["width"] == width
  return found


# Runs once the page is there, and leaves what it found in the title.
_PROBE = """
<script>
window.addEventListener("load", () => setTimeout(() => {
  const wide = [...document.querySelectorAll("body *")].filter((e) =>
    !e.closest(".scroll") && !e.closest("svg") && !e.closest("thead")
    && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.outerHTML.slice(0, 90));
  const lost = [...document.querySelectorAll("a[href^='#']")].filter((a) =>
    !document.getElementById(a.getAttribute("href").slice(1))).map((a) => a.href);
  const found = {
    width: innerWidth, scroll: document.documentElement.scrollWidth, wide, lost,
    rows: [...document.querySelectorAll("table.sortable tbody tr")].map(
      (r) => [r.cells[1].textContent, r.hidden]),
    errors: window.errors, buttons: document.querySelectorAll("th button").length,
    done: window.done ? window.done() : null,
  };
  document.body.innerHTML = "";
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
}, 50));
</script>
"""
_CATCH = """<script>
window.errors = [];
addEventListener("error", (e) => errors.push(String(e.message)));
addEventListener("securitypolicyviolation", (e) => errors.push(e.violatedDirective));
</script>"""


def look(source, folder, *, width, then=""):
  """What a page is like in a window so wide.

  Args:
    source: of the page.
    folder: to put it in.
    width: of the window, in CSS pixels.
    then: a function `() => value` in JavaScript that acts on the page.
  """
  # The probe may run where the page's policy would refuse it: the policy is tested too,
  # by its hash, without a browser.
  source = re.sub(r"<meta http-equiv=[^>]*>", "", source)
  act = f"<script>window.done = {then};</script>" if then else ""
  source = source.replace("<head>", f"<head>{_CATCH}{act}{_PROBE}", 1)
  # A window is not made narrower than some 500 pixels: a frame is.
  inner = pathlib.Path(folder) / "inner.html"
  inner.write_text(source)
  outer = pathlib.Path(folder) / "outer.html"
  outer.write_text(
    f"<iframe src='inner.html' width={width} height=800></iframe><script>"
    "setInterval(() => { const t = document.querySelector('iframe').contentDocument"
    ".body.textContent; if (t.startsWith('FOUND')) document.title = t; }, 20)</script>"
  )
  done = subprocess.run(
    [
      find(), "--headless=new", "--no-sandbox", "--disable-gpu",
      "--allow-file-access-from-files", f"--user-data-dir={folder}/profile",
      "--virtual-time-budget=4000", "--dump-dom", f"file://{outer}",
    ],
    capture_output=True, text=True, timeout=120,
  )  # fmt: skip
  found = re.search(r"<title>FOUND(.*?)END</title>", done.stdout, flags=re.DOTALL)
  assert found, done.stdout[-500:] + done.stderr[-500:]
  text = found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
  return json.loads(text)
