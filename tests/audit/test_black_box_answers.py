"""What a black box may answer: arrays of any package, classes alone, other answers."""

import types

import numpy as np
import pytest

from jmia.audit import answers

NUM_CLASSES = 4
X = np.random.default_rng(0).normal(size=(100, NUM_CLASSES)).astype(np.float32)


def _ask(predict, x=X, num_classes=NUM_CLASSES, **options):
  return answers.ask(predict, x, num_classes, **options)


def test_classes_alone_are_sure_answers():
  one_hot, told = _ask(lambda x: np.eye(NUM_CLASSES)[x.argmax(1)])
  for classes in (lambda x: x.argmax(1), lambda x: x.argmax(1)[:, None]):
    logits, of_classes = _ask(classes)
    np.testing.assert_array_equal(logits, one_hot)
    assert of_classes == told
  assert "give a class alone" in told.notes[0]


def test_a_tensor_with_a_gradient_is_read():
  torch = pytest.importorskip("torch")
  weights = torch.eye(NUM_CLASSES, requires_grad=True)
  logits, _ = _ask(lambda x: torch.tensor(x) @ weights)
  np.testing.assert_array_equal(logits, X)
  logits, _ = _ask(lambda x: torch.tensor(x).bfloat16())
  np.testing.assert_allclose(logits, X, rtol=2**-8)


@pytest.mark.parametrize(
  ("answer", "message"),
  [
    (lambda x: (x, None), "is a tuple, expected an array"),
    (lambda x: {"logits": x}, "is a dict, expected an array"),
    (lambda x: types.SimpleNamespace(logits=x), "is a SimpleNamespace, expected"),
    (lambda x: None, "is a NoneType, expected an array"),
    (lambda x: np.array(["a"] * len(x)), "or the class of each row as an integer"),
    (lambda x: x[:, 0], "dtype float32, expected logits or probabilities"),
    (lambda x: np.full(len(x), 4), "holds labels from 4 to 4, expected 0 to 3"),
  ],
)
def test_other_answers_are_named(answer, message):
  with pytest.raises(ValueError, match=message):
    _ask(answer)


def test_classes_are_no_logits():
  with pytest.raises(ValueError, match=r"shape \(100,\), expected \(100, 4\)"):
    _ask(lambda x: x.argmax(1), outputs="logits")


def test_answers_that_change_are_said():
  rng = np.random.default_rng(1)
  _, told = _ask(lambda x: x + rng.normal(size=x.shape), again=10)
  assert "of 10 rows otherwise when it is asked about them once more" in told.notes[-1]
  # Of two classes in one number, too; batch normalisation goes by the other rows.
  _, told = _ask(lambda x: (x - x.mean(0))[:, 0], num_classes=2, again=10)
  assert "otherwise when it is asked" in told.notes[-1]


def test_answers_that_are_the_same_are_not_said():
  two = lambda x: x[:, 0]  # noqa: E731
  for predict, num_classes in ((lambda x: x, NUM_CLASSES), (two, 2)):
    plain, of_once = _ask(predict, num_classes=num_classes)
    logits, told = _ask(predict, num_classes=num_classes, again=10)
    np.testing.assert_array_equal(logits, plain)
    assert told == of_once
  saved = X.copy()  # whatever is asked
  assert _ask(lambda x: saved, again=10)[1].notes == ()
