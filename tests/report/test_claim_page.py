"""A claim's page: its words, escaped, in tags that nest."""

import pytest
import test_page

from jmia.report import claim_page

FINDING = claim_page.Finding(
  suspect="<b>suspect</b>.npy",
  stands=True,
  sentence="It was trained on the data.",
  hints=["Numbers from 1?"],
  tables=[("The tests", [("test", "p-value"), ("randomization", "0.01")])],
)
CLAIM = claim_page.Claim(
  title="Was it?",
  method="By marks.",
  facts=[("Classes", "10")],
  findings=[FINDING],
  together="",
  assumptions=["It was fixed before."],
  limits=["Not who."],
  hashes=[("The key", "ab" * 32, "deposited")],
  repeat="verify --key='a & b'",
)


def test_all_that_is_said_is_there_once_and_escaped():
  source = claim_page.render(CLAIM)
  page = test_page.Page(source)  # its tags nest
  for text in (
    *("Was it?", "By marks.", "It was trained on the data.", "Numbers from 1?"),
    *("The tests", "randomization 0.01", "It was fixed before.", "Not who."),
    *("ab" * 32, "verify --key='a & b'"),
  ):
    assert text in page.words
  assert "<b>" not in source
  assert "http" not in source.replace("http-equiv", "")
  assert 'class="verdict leak"' in source
  assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "link"})


@pytest.mark.parametrize(
  ("stands", "label", "headline"),
  [
    ((True, False), "1 claim of 2", "the claim is made against <b>suspect</b>.npy."),
    ((False, False), "0 claims of 2", "the claim is made against none of them."),
  ],
)
def test_several_suspects(stands, label, headline):
  findings = [FINDING._replace(stands=one) for one in stands]
  claim = CLAIM._replace(findings=findings, together="At most 5 %.")
  words = test_page.Page(claim_page.render(claim)).words
  assert label in words
  assert headline in words
  assert "At most 5 %." in words
  assert words.count("It was trained on the data.") == 2


def test_it_is_written_whole(tmp_path):
  claim_page.write(tmp_path / "verdict.html", CLAIM)
  assert (tmp_path / "verdict.html").read_text() == claim_page.render(CLAIM)
  assert [file.name for file in tmp_path.iterdir()] == ["verdict.html"]
