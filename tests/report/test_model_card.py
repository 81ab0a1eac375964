"""Fragments for other places: a model's card, a notebook."""

import report_example

from jmia.report import model_card, notebook


def test_a_card_has_figures_and_conditions():
  text = model_card.content(report_example.report())
  lines = text.splitlines()
  assert lines[0] == "## Privacy: membership inference"
  assert "| R · reference | 0.842 (0.821–0.863) | 76.1% |" in text
  assert "400 members and 400 non-members, on synthetic data." in text
  assert "- Not run: D · distillation." in text
  assert "proves nothing" in text
  table = [line for line in lines if line.startswith("|")]
  assert {line.count("|") for line in table} == {6}


def test_names_cannot_break_out_of_a_card():
  report = report_example.report(notes=["a | b\n## c <script>"])
  text = model_card.content(report)
  assert "- A \\| b ## c &lt;script>." in text


def test_a_notebook_gets_verdict_table_and_plot():
  report = report_example.report(config={"model": "<b>m</b>"})
  text = notebook.fragment(report, report_example.samples())
  assert "picks the member out" in text
  assert "&lt;b&gt;m&lt;/b&gt;" in text
  assert "<td>0.842<br><small>0.821–0.863</small></td>" in text
  assert text.count("<svg") == 1
  assert "--attack-0:#0b5fa5" in text
