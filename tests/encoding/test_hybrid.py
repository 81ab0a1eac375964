import numpy as np
import pytest

from jmia.encoding import hybrid

RNG = np.random.default_rng(0)
RECORDS = RNG.integers(0, 2, (200, 40), dtype=np.uint8)
IS_SENSITIVE = np.arange(40) % 10 == 3  # 4 of them
PARAMS = {
  "a": {"kernel": RNG.normal(size=(20, 30)).astype(np.float32)},
  "b": RNG.normal(size=300).astype(np.float32),
}


def test_entries_are_hashes_of_what_is_known_and_the_rest():
  found = hybrid.entries(RECORDS, IS_SENSITIVE, 12, secret=5)
  assert found.hashes.shape == (200, 12)
  np.testing.assert_array_equal(found.sensitive, RECORDS[:, [3, 13, 23, 33]])
  flipped = RECORDS.copy()
  flipped[:, IS_SENSITIVE] ^= 1
  same = hybrid.entries(flipped, IS_SENSITIVE, 12, secret=5)
  np.testing.assert_array_equal(same.hashes, found.hashes)
  flipped[:, 0] ^= 1
  for other in (
    hybrid.entries(flipped, IS_SENSITIVE, 12, secret=5),
    hybrid.entries(RECORDS, IS_SENSITIVE, 12, secret=6),
  ):
    # Each bit agrees by chance: 2,400 of them.
    assert abs((other.hashes == found.hashes).mean() - 0.5) < 5 * 0.5 / 2400**0.5


def test_messages_come_back():
  hidden = hybrid.entries(RECORDS, IS_SENSITIVE, 9, secret=5)
  bits = hybrid.pack(hidden)
  again = hybrid.unpack(bits, 9, 4)
  for a, b in zip(again, hidden, strict=True):
    np.testing.assert_array_equal(a, b)
  for num_low in (3, 7):
    changed = hybrid.hide_in_weights(PARAMS, bits, num_low)
    np.testing.assert_array_equal(
      hybrid.read_from_weights(changed, len(bits), num_low), bits
    )
    for before, after in zip(
      (PARAMS["a"]["kernel"], PARAMS["b"]),
      (changed["a"]["kernel"], changed["b"]),
      strict=True,
    ):
      assert after.shape == before.shape
      assert (np.abs(after / before - 1) < 2.0 ** (num_low - 23)).all()


def test_the_last_weights_are_left_alone():
  changed = hybrid.hide_in_weights(PARAMS, np.ones(5, np.uint8), 2)
  flat = changed["a"]["kernel"].ravel()
  np.testing.assert_array_equal(flat[3:], PARAMS["a"]["kernel"].ravel()[3:])
  assert flat[:3].view(np.uint32).tolist() == [
    int(word) >> 2 << 2 | low
    for word, low in zip(
      PARAMS["a"]["kernel"].ravel()[:3].view(np.uint32), (3, 3, 1), strict=True
    )
  ]


@pytest.mark.parametrize("num_classes", [2, 5, 10])
def test_labels_carry_a_message(num_classes):
  bits = RNG.integers(0, 2, 101, dtype=np.uint8)
  x, y = hybrid.extra_rows(3, bits, (6,), num_classes)
  assert hybrid.bits_per_label(num_classes) == int(np.log2(num_classes))
  assert y.dtype == np.int32
  assert y.max() < num_classes
  assert x.dtype == np.uint8
  assert set(np.unique(x)) == {0, 1}
  np.testing.assert_array_equal(hybrid.read_from_labels(y, 101, num_classes), bits)
  again, _ = hybrid.extra_rows(3, bits, (6,), num_classes)
  np.testing.assert_array_equal(x, again)
  pixels, _ = hybrid.extra_rows(3, bits, (6, 2), num_classes, np.float32, high=16)
  assert pixels.max() == 16
  assert pixels.shape == (len(y), 6, 2)


def test_look_up_with_and_without_membership():
  hidden = hybrid.entries(RECORDS[:100], IS_SENSITIVE, 5, secret=5)  # 32 hashes

  def is_member(rows):
    known = {row.tobytes() for row in RECORDS[:100]}
    return np.array([1.0 if row.tobytes() in known else -1.0 for row in rows])

  by_hash, by_both = (
    [hybrid.look_up(hidden, record, IS_SENSITIVE, 5, score) for record in RECORDS]
    for score in (None, is_member)
  )
  for record, found in zip(RECORDS[:100], by_both[:100], strict=True):
    assert found.matches >= found.accepted >= 1
    np.testing.assert_array_equal(found.sensitive, record[IS_SENSITIVE])
  assert all(found.sensitive is None for found in by_both[100:])
  # Without membership, collisions are believed: 100 entries on 32 hashes.
  assert sum(found.sensitive is not None for found in by_hash[100:]) > 80
  wrong = [
    not np.array_equal(found.sensitive, record[IS_SENSITIVE])
    for record, found in zip(RECORDS[:100], by_hash[:100], strict=True)
  ]
  assert sum(wrong) > 30


def test_entries_of_one_hash_are_weighed():
  record, is_sensitive = np.uint8([1, 0]), np.array([False, True])
  own = hybrid.entries(record[None], is_sensitive, 8, secret=7).hashes

  def answer(said, *log_odds):
    hidden = hybrid.Entries(own.repeat(len(said), 0), np.uint8(said)[:, None])
    score = (lambda rows: np.float32(log_odds)[rows[:, 1]]) if log_odds else None
    found = hybrid.look_up(hidden, record, is_sensitive, 7, score)
    bit = None if found.sensitive is None else int(found.sensitive[0])
    return found.matches, found.accepted, bit

  assert answer([0, 1, 0, 0]) == (4, 4, 0)
  assert answer([0, 1, 1]) == (3, 3, 1)
  assert answer([0, 1, 0, 0], 1, 50) == (4, 4, 0)  # 3 x .73 against 1 x 1
  assert answer([0, 1, 0], -0.1, 0.1) == (3, 1, 1)
  assert answer([0, 1, 0], -1, -2) == (3, 0, None)
  assert answer([0, 0, 1, 1, 1], 1, -1) == (5, 2, 0)
  assert answer([0, 1, 1], 9, 0.1) == (3, 3, 1)  # .9999 against 2 x .525


def test_errors():
  with pytest.raises(ValueError, match="records has shape"):
    hybrid.entries(RECORDS[0], IS_SENSITIVE, 5, 1)
  with pytest.raises(ValueError, match="of 0 and 1"):
    hybrid.entries(RECORDS + 1, IS_SENSITIVE, 5, 1)
  with pytest.raises(ValueError, match="is_sensitive has shape"):
    hybrid.entries(RECORDS, IS_SENSITIVE[1:], 5, 1)
  for mask in (IS_SENSITIVE | True, IS_SENSITIVE & False):
    with pytest.raises(ValueError, match="some attributes"):
      hybrid.entries(RECORDS, mask, 5, 1)
  for bits in (0, 65):
    with pytest.raises(ValueError, match=f"num_hash_bits={bits}"):
      hybrid.entries(RECORDS, IS_SENSITIVE, bits, 1)
  with pytest.raises(ValueError, match="secret=-1"):
    hybrid.entries(RECORDS, IS_SENSITIVE, 5, -1)
  for num_low in (0, 24):
    with pytest.raises(ValueError, match=f"num_low={num_low}"):
      hybrid.hide_in_weights(PARAMS, np.ones(5, np.uint8), num_low)
  with pytest.raises(ValueError, match="901 bits, for which weights have room 900"):
    hybrid.hide_in_weights(PARAMS, np.ones(901, np.uint8), 1)
  with pytest.raises(ValueError, match="float64"):
    hybrid.hide_in_weights({"a": np.ones(3)}, np.ones(1, np.uint8), 1)
  with pytest.raises(ValueError, match="num_classes=1"):
    hybrid.extra_rows(1, np.ones(3, np.uint8), (2,), 1)
  with pytest.raises(ValueError, match="high=256"):
    hybrid.extra_rows(1, np.ones(3, np.uint8), (2,), 4, high=256)
